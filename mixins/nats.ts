import type { NatsConnection } from 'nats';
import { type ConnectOptions, connectNats as connect } from '../actors/log/jetstream-connection.ts';
import type { Settings } from '../config/settings.ts';
import { natsAccess } from './nats-access.ts';

/** Connects to NATS as the settings say, and comes back for as long as it is not closed. `purpose` names it on the server. */
export function connectNats(
  settings: Settings,
  purpose: string,
  options: Pick<ConnectOptions, 'clock' | 'logger' | 'firstWithinMs' | 'onState'>,
): Promise<NatsConnection> {
  return connect({ ...natsAccess(settings, purpose), ...options });
}
