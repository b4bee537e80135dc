import { describe, expect, it } from 'vitest';
import { loadSettings } from '../../../config/settings.ts';
import { bannerText, withoutSecret } from '../../../services/banner.ts';

const facts = { version: '1.2.3', kinds: ['mote'], twins: 4, startedInMs: 1234, firstKey: null };

describe('banner', () => {
  it('says what is embedded and where things are', () => {
    const text = bannerText({ ...facts, settings: loadSettings({}) });
    for (const part of [
      'PGlite',
      'mqtt://127.0.0.1:1883',
      'http://127.0.0.1:8080/docs',
      '4 known',
      '1.2 s',
      'DEMO=off',
    ]) {
      expect(text).toContain(part);
    }
    expect(text).not.toContain('tm_');
  });

  it('says what is by URL, without what may be secret', () => {
    const settings = loadSettings({
      DATABASE_URL: 'postgres://me:hush@db:5433/twins?password=hush',
      MQTT_URL: 'mqtts://me:hush@broker',
      DEMO: 'off',
      FILTER_TODAY_ONLY: '1',
    });
    const text = bannerText({ ...facts, settings });
    expect(text).toContain('PostgreSQL at postgres://db:5433/twins');
    expect(text).toContain('client of mqtts://broker');
    expect(text).toContain('note: FILTER_TODAY_ONLY');
    expect(text).not.toContain('hush');
    expect(text).not.toContain('PGlite');
    expect(text).not.toContain('demo fleet');
  });

  it('shows the first key with a line to try', () => {
    const text = bannerText({ ...facts, settings: loadSettings({ HOST: '::1' }), firstKey: 'tm_a_b' });
    expect(text).toContain("curl -s -H 'Authorization: Bearer tm_a_b' http://[::1]:8080/api/v1/fleet");
  });

  it.each([
    ['postgres://u:p@h:1/d', 'postgres://h:1/d'],
    ['postgres://u@%2Fvar%2Frun:5432/d', 'postgres:///var/run:5432/d'],
    ['mqtt://h', 'mqtt://h'],
  ])('shows %s as %s', (url, shown) => {
    expect(withoutSecret(url)).toBe(shown);
  });
});
