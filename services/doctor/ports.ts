import { createServer } from 'node:net';
import type { Settings } from '../../config/settings.ts';
import type { Check } from './check.ts';

/** Ports that this node listens on: free, or held by the node that runs here. */
export const ports: Check = {
  part: 'ports',
  async look({ settings, running }, tell) {
    for (const [name, port] of portsOf(settings)) {
      const code = await refusal(settings.host, port);
      const where = `${settings.host}:${port} (${name})`;
      if (code === null) tell.ok(`${where} is free`);
      else if (code === 'EADDRINUSE' && (await running())) tell.ok(`${where} is held, and the node here runs`);
      else if (code === 'EADDRINUSE')
        tell.fault(
          `${where} is taken by another program`,
          `End it (ss -ltnp shows it), or set ${name} to another port.`,
        );
      else if (code === 'EACCES')
        tell.fault(`${where} may not be opened by this user`, `Set ${name} to a port above 1023.`);
      else tell.fault(`${where} cannot be opened: ${code}`, 'HOST must be an address of this machine, or 0.0.0.0.');
    }
  },
};

function portsOf(settings: Settings): [string, number][] {
  const { roles, natsUrl, mqttUrl } = settings;
  const wanted: [string, number][] = [];
  if (roles.includes('gateway')) wanted.push(['PORT', settings.port]);
  else wanted.push(['METRICS_PORT', settings.metricsPort]);
  if (roles.includes('ingest') && mqttUrl === null && natsUrl === null)
    wanted.push(['MQTT_LISTEN_PORT', settings.mqttListenPort], ['MQTT_WS_PORT', settings.mqttWsPort]);
  return wanted.filter(([, port]) => port !== 0);
}

function refusal(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen(port, host, () => server.close(() => resolve(null)));
  });
}
