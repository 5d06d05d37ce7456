export type { Delivery, DeliveryState, GatewayContract } from "./contract.ts";
export type { GitlabEvent } from "./dispatch.ts";
export { createGateway, type Gateway, type GatewayOptions } from "./gateway.ts";
export { readOptions } from "./options.ts";
