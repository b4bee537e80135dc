import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import device from '../../../actors/kinds/device.ts';
import machine from '../../../actors/kinds/machine.ts';
import mote from '../../../actors/kinds/mote.ts';
import { thingModel } from '../../../actors/protocol/thing-model.ts';

describe('the thing model', () => {
  it.each([battery, device, machine, mote])('of $kind is a WoT 1.1 Thing Model in plain JSON', (kind) => {
    const model = thingModel(kind);
    expect(JSON.parse(JSON.stringify(model))).toEqual(model);
    expect(model['@context']).toBe('https://www.w3.org/2022/wot/td/v1.1');
    expect(model['@type']).toBe('tm:ThingModel');
    expect(model.title).toBe(kind.title);
    expect(model.version).toEqual({ model: `${kind.version}.0.0` });
    expect(Object.keys(model.actions as object)).toEqual(['setDesired', 'recordMaintenance']);
    expect(Object.keys(model.events as object)).toEqual(['anomalyDetected', 'alertRaised', 'alertCleared']);
  });

  it('has one property a metric, with unit and range', () => {
    expect(thingModel(machine).properties).toMatchObject({
      temperature: { type: 'number', unit: '°C', minimum: -100, readOnly: true, observable: true },
      vibration: { unit: 'mm/s', minimum: 0 },
      pressure: { unit: 'bar' },
      power: { unit: 'kW' },
    });
    expect(Object.keys(thingModel(battery).properties as object)).toEqual([...battery.metricNames]);
  });

  it('has one open property for kinds that learn their metrics', () => {
    expect(thingModel(device).properties).toEqual({
      reported: expect.objectContaining({ type: 'object', readOnly: true }),
    });
  });

  it('takes the extra members of the kind', () => {
    const model = thingModel({
      ...mote,
      thing: { support: 'https://example.org', actions: { blink: { title: 'Blink' } }, title: 'My mote' },
    });
    expect(model.support).toBe('https://example.org');
    expect(model.title).toBe('My mote');
    expect(Object.keys(model.actions as object)).toEqual(['setDesired', 'recordMaintenance', 'blink']);
  });
});
