// What a message is: the number is its first element on the wire. See PROTOCOL.md. Each is a constant of its own, which a page's bundler
// writes out where it is used; of one object with all of them it would keep every name.

export const call = 0;
export const result = 1;
export const error = 2;
export const cancel = 3;
export const notify = 4;
export const invoke = 5;
export const release = 6;
export const chunk = 7;
export const credit = 8;
export const end = 9;
export const stop = 10;
export const authenticate = 11;
export const ping = 12;
export const goodbye = 13;
export const piece = 14;
export const drop = 15;
