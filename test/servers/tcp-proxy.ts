import net from 'node:net';

/** A TCP relay that can lose what passes through it: a network for tests. */
export interface TcpProxy {
  port: number;
  /** `pass`; `lose_request`: what the client sends is dropped, then cut; `lose_answer`: the server gets it, the client is cut. */
  fault: 'pass' | 'lose_request' | 'lose_answer' | 'silence';
  close(): Promise<void>;
}

export async function tcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((client) => {
    const upstream = net.connect(targetPort, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        (socket === client ? upstream : client).destroy();
      });
    }
    client.on('data', (data) => {
      if (proxy.fault === 'lose_request') client.destroy();
      else upstream.write(data);
    });
    upstream.on('data', (data) => {
      // The server stays connected until it has answered, so that the statement is not broken off.
      if (proxy.fault === 'lose_answer') client.destroy();
      else if (proxy.fault !== 'silence') client.write(data);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: TcpProxy = {
    port: (server.address() as net.AddressInfo).port,
    fault: 'pass',
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}
