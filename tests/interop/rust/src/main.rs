//! The Rust client etcd-client against the endpoints given; a line for each check, the first difference ends it.
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, LockOptions, PutOptions, Txn, TxnOp,
    WatchOptions,
};

type Outcome = Result<(), Error>;

async fn kv(c: &mut Client) -> Outcome {
    for i in 0..20 {
        c.put(format!("rs/kv/{i:02}"), i.to_string(), None).await?;
    }
    let r = c.get("rs/kv/", Some(GetOptions::new().with_prefix().with_limit(5))).await?;
    assert_eq!((r.kvs().len(), r.count(), r.more()), (5, 20, true));
    let old = c.put("rs/kv/00", "new", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(old.prev_key().unwrap().value_str()?, "0");
    let d = c.delete("rs/kv/1", Some(DeleteOptions::new().with_prefix())).await?;
    assert_eq!(d.deleted(), 10);
    match c.put("", "x", None).await {
        Err(Error::GRpcStatus(status)) => assert_eq!(status.message(), "etcdserver: key is not provided"),
        other => panic!("an empty key was not refused: {other:?}"),
    }
    Ok(())
}

async fn txn(c: &mut Client) -> Outcome {
    let attempt = Txn::new()
        .when(vec![Compare::create_revision("rs/txn", CompareOp::Equal, 0)])
        .and_then(vec![TxnOp::put("rs/txn", "1", None)])
        .or_else(vec![TxnOp::get("rs/txn", None)]);
    assert!(c.txn(attempt.clone()).await?.succeeded());
    let second = c.txn(attempt).await?;
    assert!(!second.succeeded());
    assert_eq!(second.op_responses().len(), 1);
    Ok(())
}

async fn watch(c: &mut Client) -> Outcome {
    let mut stream = c.watch("rs/watch", Some(WatchOptions::new().with_prev_key())).await?;
    for i in 0..10 {
        c.put("rs/watch", i.to_string(), None).await?;
    }
    c.delete("rs/watch", None).await?;
    let mut seen = 0;
    while seen < 11 {
        let r = stream.message().await?.expect("the watch ended");
        for event in r.events() {
            if seen == 10 {
                assert_eq!(event.event_type(), EventType::Delete);
            } else {
                assert_eq!(event.kv().unwrap().value_str()?, seen.to_string());
            }
            seen += 1;
        }
    }
    Ok(())
}

async fn lease(c: &mut Client) -> Outcome {
    let id = c.lease_grant(60, None).await?.id();
    c.put("rs/lease", "x", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut answers) = c.lease_keep_alive(id).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        assert_eq!(answers.message().await?.expect("the stream ended").ttl(), 60);
    }
    c.lease_revoke(id).await?;
    assert_eq!(c.get("rs/lease", None).await?.count(), 0);
    assert!(c.lease_revoke(id).await.is_err());
    Ok(())
}

async fn lock(c: &mut Client) -> Outcome {
    let first = c.lease_grant(60, None).await?.id();
    let second = c.lease_grant(60, None).await?.id();
    let held = c.lock("rs/lock", Some(LockOptions::new().with_lease(first))).await?;
    let mut other = c.clone();
    let waiting = tokio::spawn(async move { other.lock("rs/lock", Some(LockOptions::new().with_lease(second))).await });
    c.unlock(held.key()).await?;
    let next = waiting.await.expect("the task ended")?;
    assert_ne!(held.key(), next.key());
    c.unlock(next.key()).await?;
    Ok(())
}

async fn election(c: &mut Client) -> Outcome {
    let id = c.lease_grant(60, None).await?.id();
    c.campaign("rs/election", "me", id).await?;
    let leader = c.leader("rs/election").await?;
    assert_eq!(leader.kv().unwrap().value_str()?, "me");
    c.resign(None).await.ok();
    c.lease_revoke(id).await?;
    assert!(c.leader("rs/election").await.is_err());
    Ok(())
}

async fn cluster(c: &mut Client) -> Outcome {
    assert_eq!(c.member_list().await?.members().len(), 3);
    assert_ne!(c.status().await?.leader(), 0);
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let endpoints: Vec<String> = std::env::args().nth(1).expect("endpoints").split(',').map(String::from).collect();
    let mut c = Client::connect(endpoints, None).await?;
    macro_rules! run {
        ($($check:ident),*) => {$(
            $check(&mut c).await?;
            println!("ok {}", stringify!($check));
        )*};
    }
    run!(kv, txn, watch, lease, lock, election, cluster);
    Ok(())
}
