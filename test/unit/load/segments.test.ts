import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { segments } from '../../../services/load/segments.ts';

async function* cut(content: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let i = 0; at < content.length; i++) {
    const size = Math.max(1, sizes[i % Math.max(1, sizes.length)] ?? content.length);
    yield content.subarray(at, at + size);
    at += size;
  }
}

async function lines(content: string, sizes: number[], maxLineBytes = 1000) {
  const found: { line: string; offset: number }[] = [];
  let tooLong = 0;
  for await (const segment of segments(cut(Buffer.from(content), sizes), 0, maxLineBytes)) {
    tooLong += segment.tooLong;
    let at = 0;
    for (const line of segment.bytes.toString().split(/(?<=\n)/)) {
      if (line !== '') found.push({ line: line.replace('\n', ''), offset: segment.offset + at });
      at += Buffer.byteLength(line);
    }
  }
  return { found, tooLong };
}

describe('segments', () => {
  it('hands out every line once, whole and in order, however the stream is cut', async () => {
    const text = fc.array(
      fc.string({ maxLength: 20 }).map((s) => s.replaceAll('\n', ' ')),
      { maxLength: 30 },
    );
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(text, sizes, fc.boolean(), async (written, cuts, ended) => {
        const content = written.join('\n') + (ended && written.length > 0 ? '\n' : '');
        const { found, tooLong } = await lines(content, cuts);
        expect(tooLong).toBe(0);
        const expected = content.split('\n');
        if (expected.at(-1) === '') expected.pop();
        expect(found.map(({ line }) => line)).toEqual(expected);
        const bytes = Buffer.from(content);
        for (const { line, offset } of found) {
          expect(bytes.subarray(offset, offset + Buffer.byteLength(line)).toString()).toBe(line);
        }
      }),
    );
  });

  it('leaves out and counts lines that are too long, and knows where the next begins', async () => {
    const long = 'x'.repeat(500);
    const { found, tooLong } = await lines(`a\n${long}\nb\n${long}${long}\nc`, [50], 100);
    expect(tooLong).toBe(2);
    expect(found.map(({ line }) => line)).toEqual(['a', 'b', 'c']);
    expect(found.map(({ offset }) => offset)).toEqual([0, 503, 1506]);
  });

  it('counts a last line that is too long', async () => {
    const { found, tooLong } = await lines(`a\n${'x'.repeat(500)}`, [50], 100);
    expect([found.length, tooLong]).toEqual([1, 1]);
  });

  it('keeps the line under way to itself when the stream breaks', async () => {
    async function* broken() {
      yield Buffer.from('one\ntw');
      throw new Error('broken');
    }
    const seen: string[] = [];
    const all = (async () => {
      for await (const { bytes } of segments(broken(), 0, 100)) seen.push(bytes.toString());
    })();
    await expect(all).rejects.toThrow('broken');
    expect(seen).toEqual(['one\n']);
  });
});
