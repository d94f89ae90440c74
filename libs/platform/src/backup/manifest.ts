import type { MemberInfo, SnapshotHeader, SnapshotTrailer } from '@quoin/contracts';
import { ArchiveError } from './archive.ts';

/** What lies beside an archive as JSON, written last: a backup without it was never finished. Ids are hex. */
export interface Manifest {
  readonly format: number;
  readonly file: string;
  readonly clusterId: string;
  /** Whose state it is: the member that was asked. */
  readonly memberId: string;
  readonly members: readonly ManifestMember[];
  readonly revision: number;
  /** −1: never compacted. */
  readonly compactRevision: number;
  readonly raftIndex: number;
  readonly raftTerm: number;
  readonly storeVersion: number;
  /** Backend entries, and the bytes of their keys and values. */
  readonly entries: number;
  readonly bytes: number;
  /** SHA-256 over the entries, as the member computed it. */
  readonly contentSha256: string;
  /** Of the archive, and SHA-256 over it. */
  readonly fileBytes: number;
  readonly sha256: string;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  /** When the archive was read back and found good. */
  readonly verifiedAt: string;
  readonly durationMs: number;
  readonly quoinVersion: string;
}

export interface ManifestMember {
  readonly id: string;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

const idText = (id: bigint): string => id.toString(16).padStart(16, '0');

export interface ManifestFacts {
  readonly file: string;
  readonly header: SnapshotHeader;
  readonly trailer: SnapshotTrailer;
  readonly members: readonly MemberInfo[];
  readonly fileBytes: number;
  readonly sha256: string;
  readonly createdAt: Date;
  readonly verifiedAt: Date;
  readonly durationMs: number;
  readonly quoinVersion: string;
  readonly format: number;
}

export function makeManifest(facts: ManifestFacts): Manifest {
  const { header, trailer } = facts;
  return {
    format: facts.format,
    file: facts.file,
    clusterId: idText(header.clusterId),
    memberId: idText(header.memberId),
    members: facts.members.map((member) => ({
      id: idText(member.id),
      name: member.name,
      peerUrls: member.peerUrls,
      clientUrls: member.clientUrls,
      learner: member.learner,
    })),
    revision: header.revision,
    compactRevision: header.compactRevision,
    raftIndex: header.meta.index,
    raftTerm: header.meta.term,
    storeVersion: header.storeVersion,
    entries: trailer.entries,
    bytes: trailer.bytes,
    contentSha256: Buffer.from(trailer.sha256).toString('hex'),
    fileBytes: facts.fileBytes,
    sha256: facts.sha256,
    createdAt: facts.createdAt.toISOString(),
    verifiedAt: facts.verifiedAt.toISOString(),
    durationMs: facts.durationMs,
    quoinVersion: facts.quoinVersion,
  };
}

const textFields = [
  'file',
  'clusterId',
  'memberId',
  'contentSha256',
  'sha256',
  'createdAt',
  'verifiedAt',
  'quoinVersion',
] as const;
const numberFields = [
  'format',
  'revision',
  'compactRevision',
  'raftIndex',
  'raftTerm',
  'storeVersion',
  'entries',
  'bytes',
  'fileBytes',
  'durationMs',
] as const;

/** @throws ArchiveError when the text is no manifest. */
export function parseManifest(path: string, text: string): Manifest {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new ArchiveError(`${path} is not JSON`);
  }
  const fields: [readonly string[], string][] = [
    [textFields, 'string'],
    [numberFields, 'number'],
  ];
  for (const [names, type] of fields) {
    for (const name of names) {
      if (typeof value !== 'object' || value === null || typeof value[name] !== type) {
        throw new ArchiveError(`${path} is not the manifest of a backup: ${name} is missing`);
      }
    }
  }
  return value as unknown as Manifest;
}
