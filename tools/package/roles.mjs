/** What is packaged for each role: the app, its commands by entry of the bundle, its unit files in deploy/systemd. */
export const roles = {
  member: { app: 'apps/member', programs: { 'quoin-member': 'main.mjs' } },
  gateway: { app: 'apps/gateway', programs: { 'quoin-gateway': 'main.mjs' } },
  backup: { app: 'apps/backup', programs: { 'quoin-backup': 'main.mjs' } },
  quoin: { app: 'apps/quoin', programs: { quoin: 'main.mjs' } },
  cli: { app: 'apps/cli', programs: { quoinctl: 'quoinctl.mjs', quoinutl: 'quoinutl.mjs' } },
};
