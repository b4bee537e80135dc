import { connect as connectTcp, isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { createWebSocketStream, WebSocket } from 'ws';
import type { TlsFiles } from './tls.ts';

/** A connection to a broker by its URL: mqtt://, mqtts://, ws://, wss://. `onOpen` when it can be written to. */
export function openTransport(url: URL, tls: TlsFiles, onOpen: () => void): Duplex {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  switch (url.protocol) {
    case 'mqtt:':
      return connectTcp({ host, port: Number(url.port || 1883), noDelay: true, keepAlive: true }, onOpen);
    case 'mqtts:':
      return connectTls(
        { ...tls, host, port: Number(url.port || 8883), ...nameOf(host), rejectUnauthorized: true },
        onOpen,
      );
    default: {
      const address = new URL(url);
      address.username = '';
      address.password = '';
      const socket = new WebSocket(address, 'mqtt', { ...tls, perMessageDeflate: false, handshakeTimeout: 10_000 });
      socket.once('open', onOpen);
      return createWebSocketStream(socket);
    }
  }
}

/** An address is no server name; the certificate is checked against it all the same. */
function nameOf(host: string): { servername?: string } {
  return isIP(host) === 0 ? { servername: host } : {};
}
