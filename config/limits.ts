/**
 * Relations between settings that have to hold together; each says why. Checked for the defaults when this file is
 * loaded by its test, and for what was set at start.
 */
export interface Limit {
  holds(s: Related): boolean;
  otherwise(s: Related): string;
}

/** The settings that stand in a relation to each other. */
export interface Related {
  readonly port: number;
  readonly mqttListenPort: number;
  readonly mqttWsPort: number;
  readonly ttlMs: number;
  readonly passivateAfterMs: number;
  readonly latenessMs: number;
  readonly historyRetentionDays: number;
  readonly maxPayloadBytes: number;
  readonly maxBodyBytes: number;
  readonly metricsMaxTwins: number;
}

const DAY_MS = 86_400_000;

export const LIMITS: readonly Limit[] = [
  {
    // A twin that leaves memory while its node would not even count as dead is read back for every reading.
    holds: (s) => s.passivateAfterMs >= s.ttlMs,
    otherwise: (s) => `PASSIVATE_AFTER_MS (${s.passivateAfterMs}) must not be below TTL_MS (${s.ttlMs}).`,
  },
  {
    // Otherwise retention drops readings that may still arrive again, and they would count twice.
    holds: (s) => s.historyRetentionDays === 0 || s.historyRetentionDays * DAY_MS > s.latenessMs,
    otherwise: (s) =>
      `HISTORY_RETENTION_DAYS (${s.historyRetentionDays}) must be longer than LATENESS_MS (${s.latenessMs}).`,
  },
  {
    // What one MQTT message may carry has to fit through the HTTP door too.
    holds: (s) => s.maxBodyBytes >= s.maxPayloadBytes,
    otherwise: (s) => `MAX_BODY_BYTES (${s.maxBodyBytes}) must not be below MAX_PAYLOAD_BYTES (${s.maxPayloadBytes}).`,
  },
  {
    holds: (s) => distinct(s.port, s.mqttListenPort, s.mqttWsPort),
    otherwise: (s) =>
      `PORT (${s.port}), MQTT_LISTEN_PORT (${s.mqttListenPort}) and MQTT_WS_PORT (${s.mqttWsPort}) must differ.`,
  },
];

function distinct(...ports: number[]): boolean {
  const taken = ports.filter((port) => port !== 0);
  return new Set(taken).size === taken.length;
}
