import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ERRORS } from '../../actors/protocol/errors.ts';

/**
 * The page of /docs in one piece: style and script are inside it and nothing is loaded from elsewhere. Its policy allows
 * exactly that style and that script, by their hashes, and requests to this server.
 */
export interface DocsPage {
  html: string;
  /** Value of Content-Security-Policy. */
  policy: string;
}

let page: DocsPage | undefined;

export function docsPage(): DocsPage {
  page ??= assemble();
  return page;
}

function assemble(): DocsPage {
  const read = (name: string) => readFileSync(new URL(`./docs/${name}`, import.meta.url), 'utf8');
  const style = read('docs.css');
  const script = read('docs.js');
  const errors = JSON.stringify(Object.entries(ERRORS).map(([code, spec]) => ({ code, ...spec })));
  const html = read('docs.html')
    .replace('{{STYLE}}', () => style)
    .replace('{{ERRORS}}', () => errors.replaceAll('&', '&amp;').replaceAll('<', '&lt;'))
    .replace('{{SCRIPT}}', () => script);
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  return { html, policy };
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
