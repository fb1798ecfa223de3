//! What becomes of those who are present when nodes die and NATS forgets.

use super::*;

#[tokio::test]
async fn what_a_dead_node_leaves_behind_is_taken_away_once() {
    let server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    let third = broker(&server.url(), 3, NatsStorage::default());
    reachable(&third.1).await;
    for (user, id) in [("ann", 1), ("bob", 2)] {
        one.join(&name("news"), promises::member(user, id), Tell::Everyone).await.unwrap();
    }
    one.join(&name("more"), promises::member("silent", 4), Tell::Nobody).await.unwrap();
    other.join(&name("news"), promises::member("cy", 3), Tell::Everyone).await.unwrap();
    until(|| node.changes() == "+ann +bob +cy", || node.changes()).await;
    // Its thread ends with it, and nobody says that it leaves.
    drop(one);
    until(|| node.changes().matches('-').count() == 2, || node.changes()).await;
    let attendance = |clients| Attendance { clients, users: clients };
    assert_eq!(other.present(&name("news"), 9).await.unwrap().attendance, attendance(1));
    other.leave(&name("news"), ClientId::from_random([3; 16]));
    until(|| node.changes().ends_with("-cy"), || node.changes()).await;
    assert_eq!(node.changes().matches('-').count(), 3, "{}", node.changes());
    let more = name("more");
    let is_empty = async || other.present(&more, 9).await.unwrap().attendance == attendance(0);
    at_last(async || is_empty().await.then_some(())).await;
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_comes_back_with_its_members() {
    let server = duplex_rigs::Nats::start();
    let way = Way::to(&server).await;
    let ((_, one), (node, other)) = pair_by(&way.url(), &server.url()).await;
    for (user, id) in [("ann", 1), ("bob", 2)] {
        one.join(&name("news"), promises::member(user, id), Tell::Everyone).await.unwrap();
    }
    until(|| node.changes() == "+ann +bob", || node.changes()).await;
    way.is_now(State::Shut);
    unreachable(&one).await;
    // Who leaves meanwhile does not come back.
    one.leave(&name("news"), ClientId::from_random([2; 16]));
    until(|| node.changes().matches('-').count() == 2, || node.changes()).await;
    way.is_now(State::Open);
    until(|| node.changes().ends_with("+ann"), || node.changes()).await;
    let present = other.present(&name("news"), 9).await.unwrap();
    assert_eq!(present.attendance, Attendance { clients: 1, users: 1 });
    assert_eq!(node.changes().matches("-bob").count(), 1);
}

#[tokio::test]
async fn members_outlive_a_nats_that_forgets_them() {
    let mut server = duplex_rigs::Nats::start();
    let ((_, one), (node, other)) = pair(&server.url()).await;
    one.join(&name("news"), promises::member("ann", 1), Tell::Everyone).await.unwrap();
    until(|| node.changes() == "+ann", || node.changes()).await;
    server.restart_empty();
    reachable(&other).await;
    let news = name("news");
    at_last(async || other.present(&news, 9).await.ok().filter(|present| present.attendance.clients == 1))
        .await;
    reachable(&one).await;
    one.leave(&name("news"), ClientId::from_random([1; 16]));
    until(|| node.changes() == "+ann -ann", || node.changes()).await;
}
