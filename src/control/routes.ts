import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyInstance } from "fastify";
import { NbdRaidError } from "../errors.ts";
import type { ArrayControl, ArrayStatus } from "../array/status.ts";
import {
  AddBody,
  ArrayParams,
  ArraySchema,
  ErrorSchema,
  MemberBody,
  Nothing,
  SettingsBody,
  StatusQuery,
  StatusSchema,
  Stopped,
  SyncBody,
} from "./api.ts";
import { findArray, type Reported, statusDocument } from "./status.ts";
import { Type } from "typebox";

/** What the control API acts on. */
export interface Controlled extends Reported {
  /** Stops serving and marks the arrays clean; resolves when that is done. */
  readonly stop: () => Promise<void>;
}

/** Every route of the API. `closing` rejects when the server goes, and ends what still waits. */
export function addRoutes(
  instance: FastifyInstance,
  controlled: Controlled,
  closing: Promise<never>,
): void {
  const app = instance.withTypeProvider<TypeBoxTypeProvider>();
  const error = { "4xx": ErrorSchema, "5xx": ErrorSchema };
  const answersArray = { params: ArrayParams, response: { 200: ArraySchema, ...error } };
  const answersNothing = { params: ArrayParams, response: { 200: Nothing, ...error } };

  const find = (name: string): ArrayControl => findArray(controlled.arrays, name);

  app.get(
    "/v1/status",
    {
      schema: {
        summary: "All arrays, exports and connections, or those of one array",
        querystring: StatusQuery,
        response: { 200: StatusSchema, ...error },
      },
    },
    ({ query }) => statusDocument(controlled, query.array),
  );

  app.post(
    "/v1/arrays/:name/fail",
    { schema: { summary: "Eject a member", body: MemberBody, ...answersArray } },
    async ({ params, body }) => {
      const array = find(params.name);
      await array.fail(body.member);
      return array.status();
    },
  );

  app.post(
    "/v1/arrays/:name/remove",
    { schema: { summary: "Let a failed member or a spare go", body: MemberBody, ...answersArray } },
    async ({ params, body }) => {
      const array = find(params.name);
      await array.remove(body.member);
      return array.status();
    },
  );

  app.post(
    "/v1/arrays/:name/re-add",
    { schema: { summary: "Take a member back by bitmap", body: MemberBody, ...answersArray } },
    async ({ params, body }) => {
      const array = find(params.name);
      await array.reAdd(pathOf(array.status(), body.member));
      return array.status();
    },
  );

  app.post(
    "/v1/arrays/:name/add",
    { schema: { summary: "Take a member in, or a spare", body: AddBody, ...answersArray } },
    async ({ params, body: { member, writeMostly } }) => {
      const array = find(params.name);
      await array.add(pathOf(array.status(), member), { writeMostly });
      return array.status();
    },
  );

  app.post(
    "/v1/arrays/:name/write-mostly",
    { schema: { summary: "Read from a member last", body: AddBody, ...answersArray } },
    async ({ params, body: { member, writeMostly } }) => {
      const array = find(params.name);
      await array.setWriteMostly(member, writeMostly);
      return array.status();
    },
  );

  app.post(
    "/v1/arrays/:name/sync",
    { schema: { summary: "Start a sync, or stop syncs", body: SyncBody, ...answersArray } },
    async ({ params, body: { verb } }) => {
      const array = find(params.name);
      await array.sync(verb);
      return array.status();
    },
  );

  app.patch(
    "/v1/arrays/:name/settings",
    { schema: { summary: "Change settings at run time", body: SettingsBody, ...answersNothing } },
    ({ params, body }) => {
      find(params.name).set(body);
      return {};
    },
  );

  app.post(
    "/v1/arrays/:name/wait",
    { schema: { summary: "Answer when no sync runs or is pending", ...answersNothing } },
    async ({ params }) => {
      await Promise.race([find(params.name).wait(), closing]);
      return {};
    },
  );

  app.post(
    "/v1/stop",
    {
      schema: {
        summary: "Stop the server; answered when the arrays are marked clean",
        response: { 200: Stopped, ...error },
      },
    },
    async () => {
      await controlled.stop();
      return { pid: process.pid };
    },
  );

  app.get("/openapi.json", { schema: { hide: true, response: { 200: Type.Unknown() } } }, () =>
    instance.swagger(),
  );
}

/** The path of the member in a slot, if `member` is a slot number; else it is a path already. */
export function pathOf(status: ArrayStatus, member: string): string {
  if (!/^\d+$/.test(member)) return member;
  const found = status.members.find(({ slot }) => slot === Number(member))?.path ?? null;
  if (found === null)
    throw new NbdRaidError(
      "unknown-member",
      `array ${status.name} has no member in slot ${member}`,
    );
  return found;
}
