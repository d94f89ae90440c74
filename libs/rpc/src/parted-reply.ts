import type { Connection } from './connection.ts';
import type { Stream } from './stream.ts';

interface Status {
  readonly code: number;
  readonly message: string;
}

/** What follows the beginning of a large answer, as it comes: the same shape as the gateway's AnswerRest. */
export interface GrpcAnswerRest {
  readonly bytes: number;
  readonly releaseFirst: (() => void) | undefined;
  start(
    onPart: (part: Uint8Array, release?: () => void) => void,
    onEnd: (status: Status | null) => void,
  ): void;
  credit(bytes: number): void;
}

/** The body of a large answer on one stream: what follows its beginning is asked for only as far as the client takes it. */
export class PartedReply {
  private readonly connection: Connection;
  private readonly stream: Stream;
  private readonly rest: GrpcAnswerRest;
  /** Sent, and not given room for again. */
  private owedBytes = 0;

  constructor(
    connection: Connection,
    stream: Stream,
    rest: GrpcAnswerRest,
    beginning: readonly Uint8Array[],
    onEnd: (status: Status | null) => void,
  ) {
    this.connection = connection;
    this.stream = stream;
    this.rest = rest;
    rest.start((part, release) => this.send(part, release), onEnd);
    beginning.forEach((piece, i) => {
      this.send(piece, i === beginning.length - 1 ? rest.releaseFirst : undefined);
    });
  }

  /** The client has taken what was sent. */
  giveCredit(): void {
    const { owedBytes } = this;
    if (owedBytes === 0) return;
    this.owedBytes = 0;
    this.rest.credit(owedBytes);
  }

  private send(part: Uint8Array, release: (() => void) | undefined): void {
    this.owedBytes += part.length;
    if (this.connection.sendData(this.stream, [part], false, release)) this.giveCredit();
  }
}
