import type { Duplex } from 'node:stream';

/**
 * Bounds the length of MQTT packets before anybody buffers them: the parsers of aedes and mqtt.js wait for as many bytes
 * as a header announces, up to 256 MB.
 *
 * It looks at what is read from a connection, reads only the fixed headers (a byte of type, one to four of length), and
 * skips over the rest.
 */
export interface PacketLimit {
  /** Longest packet, bytes, now; it may be raised once the other side has said who it is. */
  maxBytes: number;
}

const CONTINUES = 0x80;

/** Watches `connection.read`. A packet that announces more than the limit ends the connection, after `onExceeded`. */
export function limitPackets(connection: Duplex, limit: PacketLimit, onExceeded: (bytes: number) => void): void {
  const read = connection.read.bind(connection);
  /** Bytes of the current packet that are still to come; 0: a header is next. */
  let skip = 0;
  /** Of the header: -1 the type is next, else the bytes of length that were seen. */
  let lengthBytes = -1;
  let length = 0;

  const withinLimit = (chunk: Buffer): boolean => {
    for (let i = 0; i < chunk.length; ) {
      if (skip > 0) {
        const passed = Math.min(skip, chunk.length - i);
        skip -= passed;
        i += passed;
        continue;
      }
      const byte = chunk[i++];
      if (lengthBytes < 0) {
        lengthBytes = 0;
        length = 0;
        continue;
      }
      length += (byte & 0x7f) * 128 ** lengthBytes++;
      if (length > limit.maxBytes || lengthBytes > 4) return false;
      if ((byte & CONTINUES) === 0) {
        skip = length;
        lengthBytes = -1;
      }
    }
    return true;
  };

  connection.read = (size?: number) => {
    const chunk = read(size) as Buffer | null;
    if (chunk === null || withinLimit(chunk)) return chunk;
    onExceeded(length);
    connection.destroy();
    return null;
  };
}
