import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { createWebSocketStream, WebSocket } from 'ws';

/** A connection to a broker by its URL: mqtt://, mqtts://, ws://, wss://. `onOpen` when it can be written to. */
export function openTransport(url: URL, onOpen: () => void): Duplex {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  switch (url.protocol) {
    case 'mqtt:':
      return connectTcp({ host, port: Number(url.port || 1883), noDelay: true, keepAlive: true }, onOpen);
    case 'mqtts:':
      return connectTls({ host, port: Number(url.port || 8883), servername: host }, onOpen);
    default: {
      const address = new URL(url);
      address.username = '';
      address.password = '';
      const socket = new WebSocket(address, 'mqtt', { perMessageDeflate: false, handshakeTimeout: 10_000 });
      socket.once('open', onOpen);
      return createWebSocketStream(socket);
    }
  }
}
