/** What is packaged for each role: the app, its commands by entry of the bundle, its unit files in deploy/systemd. */
export const roles = {
  member: { app: 'apps/member', programs: { 'quoin-member': 'main.mjs' }, units: ['quoin-member.service'] },
  gateway: {
    app: 'apps/gateway',
    programs: { 'quoin-gateway': 'main.mjs' },
    units: ['quoin-gateway.service'],
  },
  backup: { app: 'apps/backup', programs: { 'quoin-backup': 'main.mjs' }, units: ['quoin-backup.service'] },
  quoin: {
    app: 'apps/quoin',
    programs: { quoin: 'main.mjs' },
    units: ['quoin.service', 'etcd.service.d/quoin.conf'],
  },
  cli: { app: 'apps/cli', programs: { quoinctl: 'quoinctl.mjs', quoinutl: 'quoinutl.mjs' } },
};
