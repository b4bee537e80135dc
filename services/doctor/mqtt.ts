import { resolve } from 'node:path';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { type MqttFacts, probeMqtt } from '../../mixins/mqtt-probe.ts';
import { type Check, placeOf } from './check.ts';
import { asTwinmesh } from './failure.ts';

/** Somebody's MQTT broker: lets us in, hands out what we read, and shares it between nodes. */
export const mqtt: Check = {
  part: 'mqtt',
  applies: ({ mqttUrl, roles }) => mqttUrl !== null && (roles.includes('ingest') || roles.includes('host')),
  async look({ settings }, tell) {
    const url = settings.mqttUrl as string;
    const place = placeOf(url, url.startsWith('mqtts') ? 8883 : 1883);
    const kinds = await loadKinds(settings.kindsDir === null ? [] : [resolve(settings.kindsDir)]);
    const filters = [...kinds.mqttFilters(), 'twins/+/+/telemetry', 'twins/+/+/status'];
    let facts: MqttFacts;
    try {
      facts = await probeMqtt(url, settings.roles.includes('ingest') ? filters : [], settings);
    } catch (thrown) {
      const error = asTwinmesh(thrown);
      if (error.code === 'unauthenticated')
        tell.fault(
          `${place}: ${error.message}`,
          'Correct user and password in MQTT_URL, and the password file of the broker.',
        );
      else
        tell.fault(
          `${place} cannot be used: ${error.message}`,
          'Start the broker, or correct MQTT_URL. Devices with a session keep what they could not send.',
        );
      return;
    }
    tell.ok(
      `the broker at ${place} lets us in after ${Math.round(facts.connectMs)} ms (MQTT ${facts.protocol === 5 ? '5' : '3.1.1'})`,
    );
    if (facts.refused.length > 0)
      tell.fault(
        `the broker refuses to hand out ${facts.refused.join(', ')}`,
        'Let this user read them: see deploy/mosquitto/acl.',
      );
    if (facts.maxQos < 1)
      tell.fault('the broker knows QoS 0 only', 'With QoS 0 a message that is lost is never sent again: allow QoS 1.');
    const shares = settings.mqttShareGroup !== 'none';
    if (shares && facts.sharedSubscriptions === false)
      tell.fault(
        'the broker has no shared subscriptions',
        'Set MQTT_SHARE_GROUP=none and run one ingest node, or use a broker that has them.',
      );
    else if (shares && facts.sharedSubscriptions === null)
      tell.warning(
        'the broker speaks MQTT 3.1.1: every ingest node gets every message',
        'Run one ingest node, or use a broker with MQTT 5.',
      );
    if (facts.maxPacketBytes !== null && facts.maxPacketBytes < settings.maxPayloadBytes)
      tell.warning(
        `the broker takes packets up to ${facts.maxPacketBytes} bytes, and MAX_PAYLOAD_BYTES is ${settings.maxPayloadBytes}`,
        'Raise its maximum packet size, or lower MAX_PAYLOAD_BYTES.',
      );
    if (
      settings.mqttUrl?.startsWith('mqtt:') &&
      settings.mqttUrl.includes('@') &&
      !/@(localhost|127\.|\[::1\])/.test(url)
    )
      tell.warning('the password goes over the network as it is', 'Use mqtts:// and TLS_CA_FILE.');
  },
};
