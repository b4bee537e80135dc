import { networkInterfaces } from 'node:os';
import type { Kind } from '../../actors/protocol/kind.ts';

/** Where devices reach this node. */
export interface Doorstep {
  mqttHost: string;
  mqttPort: number;
  httpHost: string;
  httpPort: number;
}

/** Programs and lines that make a device speak, complete but for what only its owner knows (marked YOUR_…). */
export interface Sketches {
  mosquittoPub: string;
  curl: string;
  arduino: string;
  micropython: string;
}

interface DoorstepSettings {
  host: string;
  port: number;
  mqttListenPort: number;
  mqttUrl: string | null;
}

/** An address that other machines can use: where everything is bound, the first one that is not this machine's own. */
export function doorstepOf(settings: DoorstepSettings): Doorstep {
  const own = reachable(settings.host);
  const broker = settings.mqttUrl === null ? null : new URL(settings.mqttUrl);
  return {
    mqttHost: broker?.hostname ?? own,
    mqttPort: broker ? Number(broker.port || 1883) : settings.mqttListenPort,
    httpHost: own,
    httpPort: settings.port,
  };
}

function reachable(host: string): string {
  if (host !== '0.0.0.0' && host !== '::') return host.includes(':') ? `[${host}]` : host;
  for (const addresses of Object.values(networkInterfaces())) {
    for (const address of addresses ?? []) if (!address.internal && address.family === 'IPv4') return address.address;
  }
  return '127.0.0.1';
}

interface SketchFacts {
  doorstep: Doorstep;
  kind: Kind;
  id: string;
  key: string;
  topic: string;
}

export function sketchesOf(facts: SketchFacts): Sketches {
  const { doorstep, key, topic, id, kind } = facts;
  const values = exampleValues(kind);
  const payload = JSON.stringify({ values });
  return {
    mosquittoPub: `mosquitto_pub -h ${doorstep.mqttHost} -p ${doorstep.mqttPort} -i ${id} -u ${id} -P ${key} -q 1 -t ${topic} -m '${payload}'`,
    curl: `curl -X POST http://${doorstep.httpHost}:${doorstep.httpPort}/api/v1/telemetry -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '${JSON.stringify([{ twinId: `${kind.kind}:${id}`, values }])}'`,
    arduino: arduino(facts, values),
    micropython: micropython(facts, values),
  };
}

/** One believable value a metric: the middle of what is normal, else of what is possible. */
function exampleValues(kind: Kind): Record<string, number> {
  if (kind.openMetrics) return { temperature: 21.5 };
  return Object.fromEntries(
    kind.metricNames.map((name) => {
      const { min, max, normal } = kind.metrics[name];
      const [lo, hi] = normal ?? [min, max];
      return [name, Number(((lo + hi) / 2).toPrecision(3))];
    }),
  );
}

function arduino({ doorstep, id, key, topic }: SketchFacts, values: Record<string, number>): string {
  const names = Object.keys(values);
  const format = `{\\"values\\":{${names.map((name) => `\\"${name}\\":%.3f`).join(',')}}}`;
  return `// Arduino (ESP32, ESP8266) with the library PubSubClient.
#include <WiFi.h>  // ESP8266: <ESP8266WiFi.h>
#include <PubSubClient.h>

const char* WIFI_NAME = "YOUR_WIFI";
const char* WIFI_PASSWORD = "YOUR_WIFI_PASSWORD";
const char* KEY = "${key}";

WiFiClient wifi;
PubSubClient mqtt(wifi);

void setup() {
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  while (WiFi.status() != WL_CONNECTED) delay(200);
  mqtt.setServer("${doorstep.mqttHost}", ${doorstep.mqttPort});
  mqtt.setBufferSize(1024);
}

void loop() {
  if (!mqtt.connected() && !mqtt.connect("${id}", "${id}", KEY)) {
    delay(2000);
    return;
  }
  mqtt.loop();
${Object.entries(values)
  .map(
    ([name, value]) => `  float ${name} = ${Number.isInteger(value) ? `${value}.0` : value};  // read your sensor here`,
  )
  .join('\n')}
  char message[768];
  snprintf(message, sizeof message, "${format}", ${names.join(', ')});
  mqtt.publish("${topic}", message);
  delay(2000);
}
`;
}

function micropython({ doorstep, id, key, topic }: SketchFacts, values: Record<string, number>): string {
  const pairs = Object.entries(values).map(
    ([name, value]) => `            "${name}": ${value},  # read your sensor here`,
  );
  return `# MicroPython with umqtt.simple (mip.install("umqtt.simple")).
import json, network, time
from umqtt.simple import MQTTClient

wifi = network.WLAN(network.STA_IF)
wifi.active(True)
wifi.connect("YOUR_WIFI", "YOUR_WIFI_PASSWORD")
while not wifi.isconnected():
    time.sleep(0.2)

client = MQTTClient("${id}", "${doorstep.mqttHost}", port=${doorstep.mqttPort}, user="${id}", password="${key}")
client.connect()
while True:
    reading = {
        "values": {
${pairs.join('\n')}
        }
    }
    client.publish("${topic}", json.dumps(reading), qos=1)
    time.sleep(2)
`;
}
