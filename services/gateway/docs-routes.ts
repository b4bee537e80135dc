import type { RouteDocs } from './routes.ts';

/** What the gateway says of its own two routes. */
export const DOCUMENT_DOCS: RouteDocs = {
  summary: 'This document',
  description: 'OpenAPI 3.1 of this version, made from the actions that answer.',
  tags: ['gateway'],
  envelope: false,
  response: { type: 'object' },
};

export const PAGE_DOCS: RouteDocs = {
  summary: 'The browsable page',
  description: 'This document for people. Nothing is loaded from elsewhere.',
  tags: ['gateway'],
  envelope: false,
};
