import type { Speaker } from '../../actors/ingress/speaker.ts';

/**
 * Who calls and how: what the gateway puts into `ctx.meta` for every action. Nothing in here comes from the client
 * without having been checked.
 */

/** Viewer to admin each may do what the one before may; `device` stands beside them and only sends telemetry. */
export const ROLES = ['viewer', 'technician', 'operator', 'admin', 'device'] as const satisfies Role[];
export type Role = Speaker['role'];

/**
 * Least role an action asks for. `public` needs no key. `metrics` is open to this machine and to METRICS_TOKEN, and
 * otherwise asks for a viewer.
 */
export const ACCESS = [...ROLES, 'public', 'metrics'] as const;
export type Access = (typeof ACCESS)[number];

/** Who a key belongs to: on HTTP and MQTT alike. */
export type Caller = Speaker;

/** Headers and circumstances of the request that actions may look at. */
export interface RequestFacts {
  method: string;
  accept: string;
  contentType: string;
  ifMatch?: string;
  idempotencyKey?: string;
  lastEventId?: string;
}

export interface CallMeta {
  /** Null for the anonymous, who only reach public actions. */
  user: Caller | null;
  requestId: string;
  request: RequestFacts;
  /** Of a call about one twin: the same however often it is sent to another node (mixins/routing.ts). */
  callId?: string;
  /** No owner was found in time: what was committed last will do. */
  lastResort?: boolean;
  /** W3C traceparent, where the request is traced. */
  traceparent?: string;
  $statusCode?: number;
  $responseType?: string;
  $responseHeaders?: Record<string, string>;
}

const RANK: Record<Exclude<Role, 'device'>, number> = { viewer: 1, technician: 2, operator: 3, admin: 4 };

/** Whether a caller of this role (null: anonymous) reaches an action. */
export function mayCall(role: Role | null, access: Access): boolean {
  if (access === 'public') return true;
  if (role === null) return false;
  if (access === 'device') return role === 'device' || RANK[role] >= RANK.operator;
  if (role === 'device') return false;
  return RANK[role] >= RANK[access === 'metrics' ? 'viewer' : access];
}
