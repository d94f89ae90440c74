import { serverVersion } from '@quoin/member';

/** Quoin's own version; equal to the package's, which a test checks. */
export const releaseVersion = '0.1.0';

const goArch: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

/** The text of `--version`: etcd's form first, because programs parse it, then Quoin's own. */
export function versionText(): string {
  return [
    `etcd Version: ${serverVersion}`,
    `Quoin Version: ${releaseVersion}`,
    `Node Version: ${process.version}`,
    `OS/Arch: ${process.platform}/${goArch[process.arch] ?? process.arch}`,
    '',
  ].join('\n');
}
