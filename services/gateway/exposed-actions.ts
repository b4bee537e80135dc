import type { Service, ServiceBroker, ServiceSchema } from 'moleculer';
import { type ExposedAction, routesOf } from './routes.ts';

interface Specified {
  _serviceSpecification: { actions: Record<string, ExposedAction> };
}

/**
 * Every action that there is to expose: those of this node, the gateway's own included although it is registered last, and
 * those that other nodes may run, as this version has them: what the mesh says of an action has lost its patterns, and one
 * whose node is away answers 503 and not 404.
 */
export function exposedActions(
  broker: ServiceBroker,
  gateway: Service,
  elsewhere: readonly ServiceSchema[],
): ExposedAction[] {
  const found = new Map<string, ExposedAction>();
  for (const { name: service, actions = {} } of elsewhere)
    for (const [key, action] of Object.entries(actions)) {
      const name = `${service}.${key}`;
      if (typeof action === 'object') found.set(name, { ...(action as object), name });
    }
  const listed = broker.registry.getActionList({ onlyAvailable: true, skipInternal: true }) as unknown as {
    name: string;
    action?: ExposedAction;
  }[];
  for (const { name, action } of listed) if (action && !found.has(name)) found.set(name, { ...action, name });
  for (const action of Object.values((gateway as unknown as Specified)._serviceSpecification.actions))
    found.set(action.name, action);
  return [...found.values()].filter((a) => a.visibility === undefined || a.visibility === 'published');
}

/** Services of this node that a gateway waits for, and what is wrong with how local actions ask to be exposed. */
export function frontedServices(broker: ServiceBroker, gateway: string): { fronted: string[]; faults: string[] } {
  const fronted: string[] = [];
  const local: ExposedAction[] = [];
  for (const service of broker.services) {
    const actions = Object.values((service as unknown as Specified)._serviceSpecification.actions);
    local.push(...actions);
    if (service.fullName !== gateway && actions.some((a) => a.rest)) fronted.push(service.fullName);
  }
  return { fronted, faults: routesOf(local).faults };
}
