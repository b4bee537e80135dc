import { createRequire } from 'node:module';
import type { ServiceBroker } from 'moleculer';
import { type DestinationStream, type Logger, pino } from 'pino';
import { traceFields } from '../mixins/trace-scope.ts';

/**
 * The log of the process: pino, one JSON object a line, or short coloured lines for a terminal.
 * Lines about a request carry `requestId`, lines about a twin `twinId`, Moleculer's own `mod`; those that are written on the
 * way of a traced message or request carry `trace_id` and `span_id`.
 */
export interface LoggerOptions {
  level: string;
  format: 'auto' | 'json' | 'pretty';
  node: string;
  /** Where the lines go; default standard output. */
  destination?: DestinationStream;
  /** Whether `auto` means pretty; default: standard output is a terminal. */
  terminal?: boolean;
}

/** Members that may hold a secret wherever a line carries them. */
const SECRETS = ['authorization', 'password', 'secret', 'token', 'apiKey', 'x-api-key'];

export function createLogger(options: LoggerOptions): Logger {
  const terminal = options.terminal ?? process.stdout.isTTY === true;
  const pretty = options.format === 'pretty' || (options.format === 'auto' && terminal);
  // Synchronous, so that the last line before an exit is not lost.
  const out = options.destination ?? pino.destination({ dest: 1, sync: true });
  return pino(
    {
      level: options.level,
      base: { node: options.node },
      timestamp: pino.stdTimeFunctions.isoTime,
      mixin: () => traceFields(),
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRETS.flatMap((name) => [`["${name}"]`, `*["${name}"]`]), censor: '[hidden]' },
    },
    pretty ? prettyLines(out, terminal) : out,
  );
}

const COLOURS: Record<string, number> = { fatal: 41, error: 31, warn: 33, info: 36, debug: 90, trace: 90 };
const HIDDEN = new Set(['level', 'time', 'node', 'msg', 'mod', 'svc', 'ns', 'nodeID', 'err']);

/** `12:03:44 warn  ingest  message  name=value`. Anything that is not a log line passes as it is. */
function prettyLines(out: DestinationStream, colours: boolean): DestinationStream {
  const paint = (code: number, text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
  return {
    write(line: string) {
      let entry: Record<string, unknown>;
      try {
        entry = JSON.parse(line);
      } catch {
        out.write(line);
        return;
      }
      const level = String(entry.level);
      const parts = [paint(90, String(entry.time).slice(11, 19)), paint(COLOURS[level] ?? 0, level.padEnd(5))];
      const from = entry.svc ?? entry.mod;
      if (from) parts.push(paint(90, String(from).toLowerCase()));
      parts.push(String(entry.msg ?? ''));
      for (const [name, value] of Object.entries(entry)) {
        if (HIDDEN.has(name)) continue;
        parts.push(paint(90, `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`));
      }
      const error = entry.err as { stack?: string; message?: string } | undefined;
      const trace = error ? `\n${error.stack ?? error.message ?? JSON.stringify(error)}` : '';
      out.write(`${parts.join(' ')}${trace}\n`);
    },
  };
}

type Level = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
interface Bindings {
  mod?: string;
  svc?: string;
}
interface LoggerFactory {
  broker: ServiceBroker;
}

/** Whoever starts the broker gets the same error, and says it once. */
const TOLD_BY_MAIN = 'Unable to start all services.';

// Moleculer's type of its base logger hides the members that a subclass has to have.
const { Loggers } = createRequire(import.meta.url)('moleculer') as {
  Loggers: { Base: new (options?: object) => { init(factory: LoggerFactory): void } };
};

/** Moleculer speaks through pino: its own good news is debug, and an error given after the text keeps its stack. */
export class BrokerLogger extends Loggers.Base {
  readonly pino: Logger;

  constructor(logger: Logger) {
    super({});
    this.pino = logger;
  }

  getLogHandler(bindings?: Bindings): (type: Level, args: unknown[]) => void {
    const own = bindings?.svc === undefined;
    const logger = this.pino.child(own ? { mod: bindings?.mod } : { svc: bindings?.svc });
    return (type, args) => {
      const text = typeof args[0] === 'string' ? args[0] : '';
      const news = type === 'info' && (own || /^Service '.*' (started|stopped)\.$/.test(text));
      const level = news || text === TOLD_BY_MAIN ? 'debug' : type;
      if (typeof args[0] !== 'string') {
        // pino's own order: an object or an error first, the text after it.
        logger[level](args[0] as object, ...(args.slice(1) as string[]));
        return;
      }
      const error = args.find((arg) => arg instanceof Error);
      const words = args.filter((arg) => typeof arg === 'string' || typeof arg === 'number').join(' ');
      const rest = args.filter((arg) => typeof arg === 'object' && arg !== null && arg !== error);
      logger[level]({ ...(error ? { err: error } : {}), ...(rest.length > 0 ? { details: rest } : {}) }, words);
    };
  }
}
