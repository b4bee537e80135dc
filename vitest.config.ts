import { defineConfig } from 'vitest/config';
import { Order } from './test/servers/order.ts';
import { SHORT_LIVED } from './test/servers/short-lived.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A machine that is loaded ten times over must not fail what it would pass later.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    sequence: { sequencer: Order },
    globalSetup: 'test/servers/scratch.ts',
    execArgv: [...SHORT_LIVED],
    coverage: {
      provider: 'v8',
      include: ['actors/**/*.ts'],
      reporter: ['text-summary', 'json-summary'],
      thresholds: { 'actors/**/*.ts': { lines: 85 } },
    },
  },
});
