import mqtt from 'mqtt';
import pg from 'pg';

/**
 * What most plants have in place of twins: a program that inserts each MQTT message into a table. The readings a second, the
 * CPU and the losses of twinmesh are held against it.
 *
 * By default messages are acknowledged as they come, as the client does by itself, and ten connections insert. With
 * ACK_AFTER=1 a message is acknowledged after its insert, one at a time, which is what it takes to lose nothing.
 */
const { MQTT_URL = '', DATABASE_URL = '', ACK_AFTER } = process.env;
const CONNECTIONS = 10;

interface Message {
  timestamp: string;
  machine_id: string;
  readings: { temperature: number; vibration: number; pressure: number; power: number };
}

const pool = new pg.Pool({ connectionString: DATABASE_URL, max: CONNECTIONS });

async function insert(payload: Buffer): Promise<void> {
  const { machine_id, timestamp, readings } = JSON.parse(payload.toString('utf8')) as Message;
  await pool.query(
    'insert into readings (machine_id, at, temperature, vibration, pressure, power) values ($1, $2, $3, $4, $5, $6)',
    [machine_id, timestamp, readings.temperature, readings.vibration, readings.pressure, readings.power],
  );
}

const client = mqtt.connect(MQTT_URL, { clientId: 'collector', clean: false });
if (ACK_AFTER === '1')
  client.handleMessage = (packet, done) => {
    insert(packet.payload as Buffer).then(() => done(), done);
  };
else
  client.on('message', (_topic, payload) => {
    insert(payload).catch((error: Error) => process.stderr.write(`${error.message}\n`));
  });
client.on('connect', () => {
  client.subscribe('factory/machines/+/readings', { qos: 1 }, () => process.stdout.write('listening\n'));
});
process.on('SIGTERM', () => client.end(false, () => process.exit(0)));
