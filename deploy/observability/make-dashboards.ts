/**
 * Writes the dashboards of this directory: `node deploy/observability/make-dashboards.ts`. Grafana's JSON is long and mostly
 * the same, so what differs is written here, and a test holds the files to it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly kind?: 'stat';
}

interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

interface Dashboard {
  readonly file: string;
  readonly title: string;
  readonly job: string;
  readonly rows: readonly Row[];
}

const of = '{job=~"$job", instance=~"$instance"}';

function query(expr: string, legend = '{{instance}}'): Query {
  return { expr: expr.replaceAll('{}', of), legend };
}

const rate = (name: string, legend?: string): Query => query(`rate(${name}{}[$__rate_interval])`, legend);

function quantiles(name: string, by = 'instance', legend = '{{instance}}'): Query[] {
  return [0.5, 0.99].map((q) =>
    query(
      `histogram_quantile(${q}, sum by (le, ${by}) (rate(${name}_bucket{}[$__rate_interval])))`,
      `p${q * 100} ${legend}`,
    ),
  );
}

const panel = (title: string, unit: string, ...queries: Query[]): Panel => ({ title, unit, queries });
const stat = (title: string, unit: string, ...queries: Query[]): Panel => ({
  title,
  unit,
  queries,
  kind: 'stat',
});

const processRow: Row = {
  title: 'Process',
  panels: [
    panel('CPU', 'percentunit', rate('process_cpu_seconds_total')),
    panel('Resident memory', 'bytes', query('process_resident_memory_bytes{}')),
    panel(
      'Event loop: longest delay',
      's',
      query('nodejs_eventloop_delay_seconds{}', '{{instance}} {{quantile}}'),
    ),
    panel('Event loop: busy', 'percentunit', query('nodejs_eventloop_utilization{}')),
    panel('Open files', 'short', query('process_open_fds{}')),
    panel(
      'Log lines',
      'ops',
      rate('quoin_log_lines_total', '{{instance}} {{level}}'),
      rate('quoin_log_lines_lost_total', '{{instance}} lost'),
    ),
  ],
};

const members: Dashboard = {
  file: 'members.json',
  title: 'Quoin members',
  job: 'quoin-member',
  rows: [
    {
      title: 'Cluster',
      panels: [
        stat('Members with a leader', 'short', query('sum(etcd_server_has_leader{})', 'members')),
        stat('Leader', 'short', query('etcd_server_is_leader{} == 1', '{{instance}}')),
        stat('Term', 'short', query('max(quoin_member_term{})', 'term')),
        stat('Revision', 'short', query('max(etcd_debugging_mvcc_current_revision{})', 'revision')),
        panel('Leader changes', 'short', query('increase(etcd_server_leader_changes_seen_total{}[5m])')),
        panel('Alarms', 'short', query('etcd_debugging_server_alarms{}', '{{alarm_type}} of {{server_id}}')),
      ],
    },
    {
      title: 'Proposals',
      panels: [
        panel('Committed', 'ops', rate('etcd_server_proposals_committed_total')),
        panel('Pending', 'short', query('etcd_server_proposals_pending{}')),
        panel('Failed', 'ops', rate('etcd_server_proposals_failed_total')),
        panel('Apply lag', 'short', query('quoin_member_apply_lag_entries{}')),
        panel('Requests of one entry', 'short', ...quantiles('quoin_member_proposal_batch_requests')),
        panel('Reads of one round', 'short', ...quantiles('quoin_member_read_batch_requests')),
        panel(
          'Slow',
          'ops',
          rate('etcd_server_slow_apply_total', '{{instance}} applies'),
          rate('etcd_server_slow_read_indexes_total', '{{instance}} reads'),
        ),
        panel('Late heartbeats', 'ops', rate('etcd_server_heartbeat_send_failures_total')),
      ],
    },
    {
      title: 'Times',
      panels: [
        panel(
          'Request, at the member',
          's',
          ...quantiles('etcd_server_request_duration_seconds', 'type', '{{type}}'),
        ),
        panel(
          'Apply of one request',
          's',
          ...quantiles('etcd_server_apply_duration_seconds', 'op', '{{op}}'),
        ),
        panel('fsync of the log', 's', ...quantiles('etcd_disk_wal_fsync_duration_seconds')),
        panel('Flush of the engine', 's', ...quantiles('etcd_disk_backend_commit_duration_seconds')),
        panel(
          'Round trip to followers',
          's',
          ...quantiles('etcd_network_peer_round_trip_time_seconds', 'instance, To', '{{instance}} to {{To}}'),
        ),
        panel('Turn of the loop', 's', ...quantiles('quoin_member_turn_duration_seconds')),
      ],
    },
    {
      title: 'Traffic',
      panels: [
        panel('To peers', 'Bps', rate('etcd_network_peer_sent_bytes_total', '{{instance}} to {{To}}')),
        panel(
          'From peers',
          'Bps',
          rate('etcd_network_peer_received_bytes_total', '{{instance}} from {{From}}'),
        ),
        panel(
          'Dropped messages',
          'ops',
          rate('etcd_network_peer_sent_failures_total', '{{instance}} to {{To}}'),
        ),
        panel(
          'Streams lost',
          'ops',
          rate('etcd_network_disconnected_peers_total', '{{instance}} to {{Remote}}'),
        ),
      ],
    },
    {
      title: 'Data',
      panels: [
        panel(
          'Size and quota',
          'bytes',
          query('etcd_mvcc_db_total_size_in_bytes{}'),
          query('etcd_server_quota_backend_bytes{}', 'quota'),
        ),
        panel('Keys', 'short', query('etcd_debugging_mvcc_keys_total{}')),
        panel(
          'Changes',
          'ops',
          rate('etcd_mvcc_put_total', '{{instance}} puts'),
          rate('etcd_mvcc_delete_total', '{{instance}} deletes'),
        ),
        panel('Ranges', 'ops', rate('etcd_mvcc_range_total')),
        panel('Leases', 'short', query('quoin_member_leases{}')),
        panel(
          'Cache of key metadata',
          'ops',
          rate('quoin_mvcc_meta_cache_hits_total', '{{instance}} hits'),
          rate('quoin_mvcc_meta_cache_misses_total', '{{instance}} misses'),
        ),
        panel(
          'Engine: files of each level',
          'short',
          query('quoin_mvcc_engine_level_files{}', '{{instance}} level {{level}}'),
        ),
        panel(
          'Engine: writes held back',
          'ops',
          rate('quoin_mvcc_engine_write_delays_total', '{{instance}} slowed'),
          rate('quoin_mvcc_engine_write_stops_total', '{{instance}} stopped'),
        ),
        panel('Engine: to be merged', 'bytes', query('quoin_mvcc_engine_pending_compaction_bytes{}')),
        panel('Compaction: versions removed', 'ops', rate('etcd_debugging_mvcc_db_compaction_keys_total')),
      ],
    },
    processRow,
  ],
};

const gateways: Dashboard = {
  file: 'gateways.json',
  title: 'Quoin gateways',
  job: 'quoin-gateway',
  rows: [
    {
      title: 'Requests',
      panels: [
        panel(
          'By method',
          'ops',
          query(
            'sum by (grpc_method) (rate(grpc_server_started_total{}[$__rate_interval]))',
            '{{grpc_method}}',
          ),
        ),
        panel(
          'By code',
          'ops',
          query('sum by (grpc_code) (rate(grpc_server_handled_total{}[$__rate_interval]))', '{{grpc_code}}'),
        ),
        panel(
          'Time, with --metrics=extensive',
          's',
          ...quantiles('grpc_server_handling_seconds', 'grpc_method', '{{grpc_method}}'),
        ),
        panel(
          'Bytes',
          'Bps',
          rate('etcd_network_client_grpc_received_bytes_total', '{{instance}} in'),
          rate('etcd_network_client_grpc_sent_bytes_total', '{{instance}} out'),
        ),
        panel('Without an answer yet', 'short', query('quoin_gateway_requests_pending{}')),
        panel(
          'By client version',
          'ops',
          query(
            'sum by (client_api_version) (rate(etcd_server_client_requests_total{}[$__rate_interval]))',
            '{{client_api_version}}',
          ),
        ),
      ],
    },
    {
      title: 'Who makes the load, with --metrics=extensive',
      panels: [
        panel(
          'Requests by prefix',
          'ops',
          query(
            'topk(10, sum by (prefix) (rate(quoin_gateway_prefix_requests_total{}[$__rate_interval])))',
            '{{prefix}}',
          ),
        ),
        panel(
          'Bytes by prefix',
          'Bps',
          query(
            'topk(10, sum by (prefix) (rate(quoin_gateway_prefix_bytes_total{}[$__rate_interval])))',
            '{{prefix}}',
          ),
        ),
        panel(
          'Requests by user',
          'ops',
          query(
            'topk(10, sum by (user) (rate(quoin_gateway_user_requests_total{}[$__rate_interval])))',
            '{{user}}',
          ),
        ),
        panel(
          'Bytes by user',
          'Bps',
          query(
            'topk(10, sum by (user) (rate(quoin_gateway_user_bytes_total{}[$__rate_interval])))',
            '{{user}}',
          ),
        ),
      ],
    },
    {
      title: 'Links to members',
      panels: [
        panel('Open', 'short', query('quoin_gateway_links_open{}')),
        panel('Lag', 'short', query('quoin_gateway_link_lag_revisions{}', '{{instance}} to {{member}}')),
        panel('Silence', 's', query('quoin_gateway_link_silence_seconds{}', '{{instance}} to {{member}}')),
        panel('Requests of one message', 'short', ...quantiles('quoin_gateway_link_batch_requests')),
        panel('Lost', 'ops', rate('quoin_gateway_links_lost_total')),
        panel('Not taken', 'ops', rate('quoin_gateway_link_refused_total')),
      ],
    },
    {
      title: 'Watch',
      panels: [
        panel(
          'Streams and watchers',
          'short',
          query('etcd_debugging_mvcc_watch_stream_total{}', '{{instance}} streams'),
          query('etcd_debugging_mvcc_watcher_total{}', '{{instance}} watchers'),
        ),
        panel('Slow watchers', 'short', query('etcd_debugging_mvcc_slow_watcher_total{}')),
        panel('Events sent', 'ops', rate('quoin_gateway_watch_events_sent_total')),
        panel('Events that wait', 'short', query('etcd_debugging_mvcc_pending_events_total{}')),
        panel('Lag', 'short', query('quoin_gateway_watch_lag_revisions{}')),
        panel('Past events read', 'ops', rate('quoin_gateway_watch_history_reads_total')),
      ],
    },
    {
      title: 'Health',
      panels: [
        panel('Checks', 'short', query('etcd_server_healthcheck{}', '{{instance}} {{type}} {{name}}')),
        panel(
          '/health',
          'ops',
          rate('etcd_server_health_success', '{{instance}} well'),
          rate('etcd_server_health_failures', '{{instance}} not'),
        ),
      ],
    },
    processRow,
  ],
};

const backup: Dashboard = {
  file: 'backup.json',
  title: 'Quoin backup',
  job: 'quoin-backup',
  rows: [
    {
      title: 'Backups',
      panels: [
        stat('Age of the newest', 's', query('quoin_backup_lag_seconds{}')),
        stat('Kept', 'short', query('quoin_backup_stored{}')),
        stat('Revision of the newest', 'short', query('quoin_backup_last_revision{}')),
        stat('Under way', 'short', query('quoin_backup_in_progress{}')),
        panel('Size', 'bytes', query('quoin_backup_last_size_bytes{}')),
        panel('Time taken', 's', query('quoin_backup_last_duration_seconds{}')),
        panel(
          'Outcomes',
          'short',
          query('increase(quoin_backup_success_total{}[1h])', 'good'),
          query('increase(quoin_backup_failures_total{}[1h])', 'failed'),
          query('increase(quoin_backup_retries_total{}[1h])', 'tried again'),
        ),
        panel('Removed', 'short', query('increase(quoin_backup_pruned_total{}[1h])')),
      ],
    },
    processRow,
  ],
};

const columns = 24;
const width = 8;
const height = 7;
const datasource = { type: 'prometheus', uid: '$datasource' };

function renderPanel(spec: Panel, id: number, x: number, y: number): object {
  return {
    id,
    title: spec.title,
    type: spec.kind ?? 'timeseries',
    datasource,
    gridPos: { x, y, w: width, h: height },
    fieldConfig: { defaults: { unit: spec.unit, min: 0 }, overrides: [] },
    options:
      spec.kind === 'stat' ? { reduceOptions: { calcs: ['lastNotNull'] } } : { tooltip: { mode: 'multi' } },
    targets: spec.queries.map(({ expr, legend }, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource,
      expr,
      legendFormat: legend,
    })),
  };
}

function render(dashboard: Dashboard): object {
  const panels: object[] = [];
  let id = 1;
  let y = 0;
  for (const row of dashboard.rows) {
    panels.push({
      id: id++,
      title: row.title,
      type: 'row',
      collapsed: false,
      gridPos: { x: 0, y: y++, w: columns, h: 1 },
    });
    row.panels.forEach((spec, i) => {
      panels.push(
        renderPanel(spec, id++, (i * width) % columns, y + height * Math.floor((i * width) / columns)),
      );
    });
    y += height * Math.ceil((row.panels.length * width) / columns);
  }
  const variable = (name: string, text: string, more: object): object => ({
    name,
    type: 'query',
    datasource,
    query: text,
    refresh: 2,
    includeAll: true,
    multi: true,
    ...more,
  });
  return {
    title: dashboard.title,
    uid: dashboard.title.toLowerCase().replaceAll(' ', '-'),
    tags: ['quoin'],
    schemaVersion: 39,
    timezone: 'browser',
    refresh: '15s',
    time: { from: 'now-1h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus' },
        variable('job', 'label_values(process_start_time_seconds, job)', {
          current: { text: dashboard.job, value: dashboard.job },
        }),
        variable('instance', 'label_values(process_start_time_seconds{job=~"$job"}, instance)', {
          current: { text: 'All', value: '$__all' },
        }),
      ],
    },
    panels,
  };
}

/** Name and contents of each file. */
export function dashboardFiles(): { readonly name: string; readonly text: string }[] {
  return [members, gateways, backup].map((dashboard) => ({
    name: dashboard.file,
    text: `${JSON.stringify(render(dashboard), undefined, 2)}\n`,
  }));
}

if (process.argv[1] === import.meta.filename) {
  for (const { name, text } of dashboardFiles()) {
    writeFileSync(join(import.meta.dirname, 'dashboards', name), text);
  }
}
