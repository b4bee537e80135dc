import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ERRORS } from '../../../actors/protocol/errors.ts';
import { docsPage } from '../../../services/gateway/docs-page.ts';

describe('docs page', () => {
  const { html, policy } = docsPage();

  it('loads nothing from elsewhere', () => {
    expect(html).not.toMatch(/(src|href)\s*=\s*["']?(https?:)?\/\//);
    expect(html).not.toMatch(/@import|url\(/);
    expect(html).not.toContain('{{');
  });

  it('is allowed by its own policy, and nothing else is', () => {
    for (const [tag, directive] of [
      ['script', 'script-src'],
      ['style', 'style-src'],
    ]) {
      const blocks = [...html.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))];
      expect(blocks).toHaveLength(1);
      const hash = createHash('sha256').update(blocks[0][1]).digest('base64');
      expect(policy).toContain(`${directive} 'sha256-${hash}'`);
    }
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    // Attributes that the policy would block.
    expect(html).not.toMatch(/<[a-z][^>]*\s(style|on[a-z]+)=/);
  });

  it('has the remedy of every error', () => {
    const list = /<template id="error-list">([\s\S]*?)<\/template>/.exec(html)?.[1] ?? '';
    const errors = JSON.parse(list.replaceAll('&lt;', '<').replaceAll('&amp;', '&')) as {
      code: string;
      remedy: string;
    }[];
    expect(errors.map((e) => e.code)).toEqual(Object.keys(ERRORS));
    expect(errors.every((e) => e.remedy.length > 0)).toBe(true);
  });
});
