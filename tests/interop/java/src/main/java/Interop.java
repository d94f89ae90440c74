import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** jetcd against the endpoints given; a line for each check, the first difference ends it. */
public class Interop {
  interface Check {
    void run(Client client) throws Exception;
  }

  public static void main(String[] args) {
    String[] endpoints = Arrays.stream(args[0].split(",")).map(e -> "http://" + e).toArray(String[]::new);
    try (Client client = Client.builder().endpoints(endpoints).build()) {
      run("kv", Interop::kv, client);
      run("txn", Interop::txn, client);
      run("watch", Interop::watch, client);
      run("lease", Interop::lease, client);
      run("lock", Interop::lock, client);
      run("election", Interop::election, client);
      run("cluster", Interop::cluster, client);
    }
    System.exit(0);
  }

  static void run(String name, Check check, Client client) {
    try {
      check.run(client);
      System.out.println("ok " + name);
    } catch (Throwable problem) {
      System.out.println("not ok " + name + ": " + problem);
      System.exit(1);
    }
  }

  static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  static <T> T get(CompletableFuture<T> answer) throws Exception {
    return answer.get(20, TimeUnit.SECONDS);
  }

  static void want(Object got, Object wanted) {
    if (!wanted.equals(got)) throw new AssertionError("got " + got + ", want " + wanted);
  }

  static void refused(CompletableFuture<?> answer, String text) throws Exception {
    try {
      get(answer);
    } catch (ExecutionException problem) {
      if (problem.getMessage().contains(text)) return;
      throw problem;
    }
    throw new AssertionError("not refused with " + text);
  }

  static void kv(Client client) throws Exception {
    var kv = client.getKVClient();
    for (int i = 0; i < 20; i++) get(kv.put(bytes(String.format("jv/kv/%02d", i)), bytes("" + i)));
    var found = get(kv.get(bytes("jv/kv/"), GetOption.builder().isPrefix(true).withLimit(5).build()));
    want(found.getKvs().size(), 5);
    want(found.getCount(), 20L);
    want(found.isMore(), true);
    var old = get(kv.put(bytes("jv/kv/00"), bytes("new"), PutOption.builder().withPrevKV().build()));
    want(old.getPrevKv().getValue().toString(), "0");
    var gone = get(kv.delete(bytes("jv/kv/1"), DeleteOption.builder().isPrefix(true).build()));
    want(gone.getDeleted(), 10L);
    refused(kv.put(bytes(""), bytes("x")), "etcdserver: key is not provided");
  }

  static void txn(Client client) throws Exception {
    var key = bytes("jv/txn");
    for (boolean first : List.of(true, false)) {
      TxnResponse answer =
          get(
              client
                  .getKVClient()
                  .txn()
                  .If(new Cmp(key, Cmp.Op.EQUAL, CmpTarget.version(0)))
                  .Then(Op.put(key, bytes("1"), PutOption.DEFAULT))
                  .Else(Op.get(key, GetOption.DEFAULT))
                  .commit());
      want(answer.isSucceeded(), first);
      if (!first) want(answer.getGetResponses().get(0).getKvs().get(0).getValue().toString(), "1");
    }
  }

  static void watch(Client client) throws Exception {
    BlockingQueue<String> seen = new LinkedBlockingQueue<>();
    var first = get(client.getKVClient().put(bytes("jv/watch"), bytes("0")));
    var options = WatchOption.builder().withRevision(first.getHeader().getRevision()).build();
    Watch.Listener listener =
        Watch.listener(r -> r.getEvents().forEach(e -> seen.add(e.getEventType() + " " + e.getKeyValue().getValue())));
    try (var watcher = client.getWatchClient().watch(bytes("jv/watch"), options, listener)) {
      for (int i = 1; i < 10; i++) get(client.getKVClient().put(bytes("jv/watch"), bytes("" + i)));
      get(client.getKVClient().delete(bytes("jv/watch")));
      for (int i = 0; i < 10; i++) want(seen.poll(20, TimeUnit.SECONDS), "PUT " + i);
      want(seen.poll(20, TimeUnit.SECONDS), "DELETE ");
    }
  }

  static void lease(Client client) throws Exception {
    var leases = client.getLeaseClient();
    long id = get(leases.grant(60)).getID();
    get(client.getKVClient().put(bytes("jv/lease"), bytes("x"), PutOption.builder().withLeaseId(id).build()));
    LeaseKeepAliveResponse alive = get(leases.keepAliveOnce(id));
    want(alive.getTTL(), 60L);
    get(leases.revoke(id));
    want(get(client.getKVClient().get(bytes("jv/lease"))).getCount(), 0L);
    refused(leases.revoke(id), "etcdserver: requested lease not found");
  }

  static void lock(Client client) throws Exception {
    var locks = client.getLockClient();
    long first = get(client.getLeaseClient().grant(60)).getID();
    long second = get(client.getLeaseClient().grant(60)).getID();
    var held = get(locks.lock(bytes("jv/lock"), first)).getKey();
    var waiting = locks.lock(bytes("jv/lock"), second);
    want(waiting.isDone(), false);
    get(locks.unlock(held));
    get(locks.unlock(get(waiting).getKey()));
  }

  static void election(Client client) throws Exception {
    var elections = client.getElectionClient();
    long id = get(client.getLeaseClient().grant(60)).getID();
    var key = get(elections.campaign(bytes("jv/election"), id, bytes("me"))).getLeader();
    want(get(elections.leader(bytes("jv/election"))).getKv().getValue().toString(), "me");
    get(elections.resign(key));
    refused(elections.leader(bytes("jv/election")), "NoLeaderException");
  }

  static void cluster(Client client) throws Exception {
    want(get(client.getClusterClient().listMember()).getMembers().size(), 3);
  }
}
