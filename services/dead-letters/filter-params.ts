/** Which dead letters are meant, as requests say it. */
export const FILTER_PARAMS = {
  code: {
    type: 'string',
    pattern: /^[a-z_]{1,40}$/,
    optional: true,
    description: 'Why it was refused.',
    example: 'out_of_range',
  },
  source: {
    type: 'string',
    min: 1,
    max: 512,
    optional: true,
    description: 'Where it came in: `protocol:address`, or the protocol alone.',
    example: 'mqtt',
  },
  twinId: {
    type: 'string',
    max: 160,
    optional: true,
    description: 'The twin it was for, where that is known.',
    example: 'machine:MACHINE_001',
  },
} as const;
