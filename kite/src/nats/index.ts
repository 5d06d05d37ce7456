export { natsBus, type NatsBusOptions } from "./bus.ts";
export { natsDialer, type NatsDialerOptions } from "./dial.ts";
export { listenNats, type ListenNatsOptions, type NatsListener, type ServesTransports } from "./listen.ts";
