export { Client, type ClientEvents, type ClientOptions, type TokenRequest } from './client.js';
export type { State } from './connector.js';
export { DuplexError } from './error.js';
export type { Emitter } from './emitter.js';
export type {
  Connected,
  End,
  History,
  Member,
  Position,
  Presence,
  PresenceList,
  PresenceStats,
  Publication,
  Published,
  Subscribed,
  Transport,
} from './protocol.js';
export type {
  HistoryOptions,
  PublishOptions,
  SubscribeOptions,
  Subscription,
  SubscriptionEvents,
} from './subscription.js';
export type { Times } from './times.js';
export type { WebSocketLike } from './wire.js';
