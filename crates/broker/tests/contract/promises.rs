//! What every broker promises, whatever it is made of.

use super::*;

pub async fn offsets_count_up_by_one_and_listeners_get_them_in_order(rig: &Rig) {
    let broker = &*rig.broker;
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let start = broker.history(&name("news"), Extent::Nothing).await.unwrap().position;
    assert_eq!(start.offset, 0);
    for offset in 1..=3 {
        let position = broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
        assert_eq!(position, Position { offset, ..start });
    }
    broker.publish(draft("other", "x", 0), KEEP).await.unwrap();
    assert_eq!(rig.offsets("news").await, [1, 2, 3]);
    assert_eq!(rig.offsets("other").await, [0u64; 0]);
}

pub async fn each_listening_shard_is_named_until_it_ignores(rig: &Rig) {
    let broker = &*rig.broker;
    for index in [0, 5] {
        broker.listen(&name("news"), shard(index)).await.unwrap();
    }
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    rig.settle("news").await;
    broker.ignore(&name("news"), shard(0));
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    rig.settle("news").await;
    broker.ignore(&name("news"), shard(5));
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    let shards: Vec<Vec<usize>> = rig
        .node
        .events
        .lock()
        .unwrap()
        .iter()
        .map(|(set, _)| set.iter().map(ShardId::index).collect())
        .collect();
    assert_eq!(shards, [vec![0, 5], vec![5]]);
}

pub async fn racing_publishers_never_share_or_skip_an_offset(rig: &Rig) {
    let broker = &*rig.broker;
    broker.listen(&name("news"), shard(0)).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(broker.publish(draft("news", "x", 0), KEEP))));
        }
    });
    assert_eq!(rig.offsets("news").await, (1..=2000).collect::<Vec<_>>());
}

pub async fn history_gives_all_that_was_missed_or_nothing(rig: &Rig) {
    let broker = &*rig.broker;
    let keep = Retention { publications: 3, ..KEEP };
    let start = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    for _ in 0..4 {
        broker.publish(draft("news", "x", 0), keep).await.unwrap();
    }
    let at = |offset| Position { offset, ..start };
    let elsewhere = broker.publish(draft("other", "x", 0), keep).await.unwrap();
    assert_eq!(missed(broker, "news", at(5)).await, Some(vec![]));
    assert_eq!(missed(broker, "news", at(2)).await, Some(vec![3, 4, 5]));
    assert_eq!(missed(broker, "news", at(1)).await, None, "the ring no longer reaches back");
    assert_eq!(missed(broker, "news", at(6)).await, None, "an offset that was never given out");
    assert_eq!(missed(broker, "news", at(u64::MAX)).await, None);
    assert_eq!(missed(broker, "news", Position { offset: 5, ..elsewhere }).await, None, "another epoch");
}

pub async fn who_left_a_silent_channel_recovers_what_was_published_since(rig: &Rig) {
    let broker = &*rig.broker;
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let position = broker.history(&name("news"), Extent::Nothing).await.unwrap().position;
    broker.ignore(&name("news"), shard(0));
    broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    assert_eq!(missed(broker, "news", position).await, Some(vec![1]));
}

pub async fn pages_follow_one_another_in_both_directions(rig: &Rig) {
    let broker = &*rig.broker;
    let keep = Retention { publications: 5, ..KEEP };
    let mut top = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    for _ in 0..7 {
        top = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    }
    use Order::{NewestFirst, OldestFirst};
    for (since, limit, order, offsets) in [
        (None, 2, OldestFirst, Some(vec![4, 5])),
        (Some(5), 2, OldestFirst, Some(vec![6, 7])),
        (Some(7), 2, OldestFirst, Some(vec![8])),
        (Some(8), 2, OldestFirst, Some(vec![])),
        (Some(3), 9, OldestFirst, Some(vec![4, 5, 6, 7, 8])),
        (Some(2), 9, OldestFirst, None),
        (None, 2, NewestFirst, Some(vec![8, 7])),
        (Some(7), 2, NewestFirst, Some(vec![6, 5])),
        (Some(5), 9, NewestFirst, Some(vec![4])),
        (Some(4), 9, NewestFirst, Some(vec![])),
        (Some(9), 9, NewestFirst, None),
        (None, 0, NewestFirst, Some(vec![])),
    ] {
        let since = since.map(|offset| Position { offset, ..top });
        let page = Page { since, limit, order };
        assert_eq!(read(broker, "news", Extent::Page(page)).await, offsets, "{page:?}");
    }
}

pub fn keyed(key: &str, text: &str) -> Draft {
    Draft { key: Some(IdempotencyKey::parse(key).unwrap()), ..draft("news", text, 0) }
}

pub async fn what_is_repeated_with_its_key_is_published_once(rig: &Rig) {
    let broker = &*rig.broker;
    let keep = Retention { publications: 2, ..KEEP };
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let first = broker.publish(keyed("a", "x"), keep).await.unwrap();
    assert_eq!(broker.publish(Draft { time_ms: 9, ..keyed("a", "x") }, keep).await, Ok(first));
    assert_eq!(broker.publish(keyed("a", "y"), keep).await, Err(BrokerError::KeyReused));
    assert_eq!(broker.publish(keyed("b", "x"), keep).await.unwrap().offset, 2);
    assert_eq!(broker.publish(keyed("a", "x"), keep).await, Ok(first));
    assert_eq!(rig.offsets("news").await, [1, 2]);
    // As long as it is kept: here two publications.
    assert_eq!(broker.publish(draft("news", "z", 0), keep).await.unwrap().offset, 3);
    assert_eq!(broker.publish(keyed("a", "x"), keep).await.unwrap().offset, 4);
}

pub async fn racing_repeats_are_one_publication(rig: &Rig) {
    let broker = &*rig.broker;
    broker.listen(&name("news"), shard(0)).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|n| drop(broker.publish(keyed(&n.to_string(), "x"), KEEP))));
        }
    });
    assert_eq!(rig.offsets("news").await, (1..=50).collect::<Vec<_>>());
}

pub fn member(user: &str, id: u8) -> Member {
    let client = ClientId::from_random([id; 16]);
    Member { client, user: Some(UserId::parse(user).unwrap()), info: None }
}

pub async fn each_member_joins_once_and_leaves_once(rig: &Rig) {
    let broker = &*rig.broker;
    let news = name("news");
    broker.join(&news, member("early", 0), Tell::Everyone).await.unwrap();
    broker.listen(&news, shard(0)).await.unwrap();
    for member in [member("alice", 1), member("alice", 1), member("alice", 2), member("bob", 3)] {
        broker.join(&news, member, Tell::Everyone).await.unwrap();
    }
    broker.join(&news, member("silent", 4), Tell::Nobody).await.unwrap();
    let present = broker.present(&news, 2).await.unwrap();
    assert_eq!(present.attendance, Attendance { clients: 5, users: 4 });
    assert_eq!(present.members.len(), 2);
    for id in [1, 1, 2, 3, 4, 9] {
        broker.leave(&news, ClientId::from_random([id; 16]));
    }
    rig.changes_are("+alice +alice +bob -alice -alice -bob").await;
    assert_eq!(broker.present(&news, 9).await.unwrap().attendance, Attendance { clients: 1, users: 1 });
}

pub async fn a_channel_without_history_delivers_and_keeps_nothing(rig: &Rig) {
    let broker = &*rig.broker;
    let keep = Retention { publications: 0, ..KEEP };
    broker.listen(&name("news"), shard(0)).await.unwrap();
    let first = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    let second = broker.publish(draft("news", "x", 0), keep).await.unwrap();
    assert_eq!(rig.offsets("news").await, [1, 2]);
    assert_eq!(missed(broker, "news", first).await, None);
    assert_eq!(missed(broker, "news", second).await, Some(vec![]));
}

pub async fn history_shrinks_when_less_of_it_is_to_be_kept(rig: &Rig) {
    let broker = &*rig.broker;
    for _ in 0..10 {
        broker.publish(draft("news", "x", 0), KEEP).await.unwrap();
    }
    let top = broker.publish(draft("news", "x", 0), Retention { publications: 2, ..KEEP }).await.unwrap();
    assert_eq!(missed(broker, "news", Position { offset: 9, ..top }).await, Some(vec![10, 11]));
    assert_eq!(missed(broker, "news", Position { offset: 8, ..top }).await, None);
}

pub async fn what_is_published_arrives_as_it_was(rig: &Rig) {
    let broker = &*rig.broker;
    let odd = "}odd {name}: é";
    broker.listen(&name(odd), shard(0)).await.unwrap();
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let tags = [("lang".to_owned(), "de".to_owned())].into();
    let binary = vec![duplex_core::Span { start: 1, end: 7 }];
    let drafts = [
        draft(odd, "x", 1_799_999_999_000),
        Draft {
            event: EventName::parse("moved").unwrap(),
            payload: Payload::Args(Json::check_with_binary(&raw("[\"AAEC\",1e3]"), binary).unwrap()),
            tags: Tags::parse(tags).unwrap(),
            client: Some(ClientId::from_random([3; 16])),
            key: Some(IdempotencyKey::parse("once: é").unwrap()),
            audience: duplex_core::Audience {
                except: [ClientId::from_random([4; 16])].into(),
                effort: duplex_core::Effort::Volatile,
            },
            ..draft(odd, "", 1_800_000_000_000)
        },
    ];
    for draft in &drafts {
        broker.publish(draft.clone(), KEEP).await.unwrap();
    }
    rig.settle(odd).await;
    let delivered: Vec<Draft> = rig
        .node
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Publication(publication) => Some(publication.draft.clone()),
            Event::Presence(_) => None,
        })
        .collect();
    assert_eq!(delivered, drafts);
    let page = Page { since: None, limit: 9, order: Order::OldestFirst };
    let Past::Kept(kept) = broker.history(&name(odd), Extent::Page(page)).await.unwrap().past else {
        panic!("it is not kept")
    };
    assert_eq!(kept.iter().map(|publication| publication.draft.clone()).collect::<Vec<_>>(), drafts);
    let member = Member {
        info: Some(Json::check(&raw("{\"name\":\"A \\\"t\\\":1}\"}")).unwrap()),
        ..member("ann 3", 9)
    };
    broker.join(&name(odd), member.clone(), Tell::Everyone).await.unwrap();
    let present = broker.present(&name(odd), 9).await.unwrap();
    assert_eq!(present.members.iter().map(|member| Member::clone(member)).collect::<Vec<_>>(), [member]);
}

/// What nodes that share a broker promise each other.
pub async fn rows(one: &impl Cluster, other: &impl Cluster) {
    let key = [7; 16];
    let row = |version, content: &'static [u8]| Row { version, content: Bytes::from_static(content) };
    assert_eq!(other.kept(key).await, Ok(None));
    assert_eq!(one.keep(key, row(9, b"\x00a row"), 60_000).await, Ok(Kept::Now));
    assert_eq!(other.kept(key).await, Ok(Some(row(9, b"\x00a row"))));
    assert_eq!(other.keep(key, row(10, b""), 60_000).await, Ok(Kept::Now));
    for late in [9, 10] {
        assert_eq!(one.keep(key, row(late, b"too late"), 60_000).await, Ok(Kept::TooLate));
    }
    assert_eq!(one.kept(key).await, Ok(Some(row(10, b""))));
    assert_eq!(one.keep(key, row(u64::MAX, b"soon gone"), 1).await, Ok(Kept::Now));
    at_last(async || (other.kept(key).await == Ok(None)).then_some(())).await;
}
