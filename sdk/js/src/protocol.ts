/** The words of the native protocol, see docs/protocol.md. */

/** A way for bytes to travel. */
export type Transport = 'websocket' | 'sse' | 'stream' | 'poll';

/** Where something stands in a channel. */
export interface Position {
  epoch: string;
  offset: number;
}

/** One message in a channel; the payload is `data` or `args`. */
export interface Publication<Data = any> extends Position {
  channel: string;
  event: string;
  data: Data;
  args?: any[];
  tags?: Record<string, string>;
  /** Public id of the client that published it; absent if a backend did. */
  client?: string;
  /** When the server took it, milliseconds since 1970 UTC. */
  time: number;
}

/** Someone in a channel. */
export interface Member {
  client: string;
  user?: string;
  info?: any;
}

/** Someone who came into a channel or left it. */
export interface Presence extends Member {
  channel: string;
}

/** What the server says of a connection when it begins. */
export interface Connected {
  client: string;
  user?: string;
  expires_in_ms?: number;
  version: string;
  heartbeat_ms: number;
  message_bytes_max: number;
  subscriptions_max: number;
}

/** Where a subscription starts; `recovered` only if a position was named. */
export interface Subscribed extends Position {
  channel: string;
  recovered?: boolean | undefined;
}

/** Where a publication was put. */
export interface Published extends Position {
  channel: string;
}

/** A page of a channel's history; its position is the channel's newest. */
export interface History extends Position {
  channel: string;
  publications: Publication[];
}

/** How many are in a channel. */
export interface PresenceStats {
  channel: string;
  clients: number;
  users: number;
}

/** Who is in a channel. */
export interface PresenceList extends PresenceStats {
  members: Member[];
}

/** Why a connection ended: a close code (docs/errors.md), an HTTP status, or 1006 if nobody said why. */
export interface End {
  code: number;
  reason: string;
  /** Whether to come back; the code decides if it is absent. */
  reconnect?: boolean | undefined;
  /** What the server asks to wait before coming back. */
  after_ms?: number | undefined;
}

/** What begins every transport of a session. */
export interface Attached {
  after: number;
  received: number;
}

/** One object from the server: an optional id, and the key that names its kind. */
export interface Frame {
  id?: number;
  error?: { code: number; message: string };
  connected?: Connected;
  subscribed?: Subscribed;
  publication?: Publication;
  joined?: Presence;
  left?: Presence;
  closing?: { code: number; message: string; reconnect?: boolean; after_ms?: number };
  attached?: Attached;
}

/** A message from the client, with the id of its first command. */
export interface Message {
  text: string;
  id: number;
}
