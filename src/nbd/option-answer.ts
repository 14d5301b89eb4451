/** What an option is answered with, and what the answer depends on. */
import type { Export } from "./block-device.ts";
import { OptionReply } from "./constants.ts";
import type { Negotiated } from "./negotiated.ts";

export interface OptionReplyMessage {
  readonly type: number;
  readonly data: Uint8Array;
}

/** What an option leads to. Without `chosen`, `startTls` or `close`, the client may send another. */
export interface Answer {
  readonly replies: readonly OptionReplyMessage[];
  /** What is agreed on from here on; absent: what was before. */
  readonly negotiated?: Negotiated;
  /** Transmission of this export begins. */
  readonly chosen?: Export;
  /** TLS begins once the replies have left, and what was negotiated before it is forgotten. */
  readonly startTls?: true;
  /** The connection ends, for the reason given. */
  readonly close?: string;
}

/** Where the haggling stands. */
export interface Haggling {
  readonly exports: readonly Export[];
  readonly negotiated: Negotiated;
}

export const ACK: OptionReplyMessage = { type: OptionReply.ACK, data: new Uint8Array(0) };

/** `text` is for people. */
export function refuse(type: number, text: string): Answer {
  return { replies: [{ type, data: Buffer.from(text) }] };
}
