//! Stories of a client and a server that says what the story says.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::inbox::Inbox;
use crate::options::Token;

struct Talk {
    conversation: Conversation,
    start: Instant,
    now: Instant,
    wishes: VecDeque<Wish>,
}

impl Talk {
    fn new(token: Token) -> Self {
        let source = match token {
            Token::Ask(source) => Some(source),
            _ => None,
        };
        let start = Instant::now();
        let conversation = Conversation::new(Form::Json, Times::default(), source);
        Self { conversation, start, now: start, wishes: VecDeque::new() }
    }

    /// A connection on which the client is let in. Returns what it said first.
    fn meet(&mut self, more: Value) -> Value {
        let first = self.conversation.introduce(Some("t"));
        let first: Value = serde_json::from_slice(&first.bytes).unwrap();
        let connect = if first.is_array() { &first[0] } else { &first };
        let mut connected = json!({ "client": "me", "heartbeat_ms": 25_000, "message_bytes_max": 1_000 });
        connected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.hears(json!({ "id": connect["id"], "connected": connected }));
        while let Some(wish) = self.conversation.poll_wish() {
            self.wishes.push_back(wish);
        }
        let greeted = self.wishes.iter().position(|wish| matches!(wish, Wish::Greeted(_)));
        self.wishes.remove(greeted.expect("the client is let in"));
        first
    }

    fn wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front().or_else(|| self.conversation.poll_wish())
    }

    fn hears(&mut self, frame: Value) {
        let frame = Frame::read(&frame.to_string()).unwrap();
        self.conversation.take(frame, self.now, u32::MAX);
    }

    /// What the client says next.
    fn says(&mut self) -> Value {
        let message = self.conversation.next_message();
        message.map_or(Value::Null, |message| serde_json::from_slice(&message.bytes).unwrap())
    }

    fn ask(&mut self, body: &Value) -> oneshot::Receiver<Answer> {
        let (asker, answer) = oneshot::channel();
        self.conversation.ask(Command::new("publish", body), asker, self.now);
        answer
    }

    fn subscribe(&mut self, channel: &str, options: SubscribeOptions) -> Seat {
        self.conversation.subscribe(channel.into(), options).unwrap()
    }

    fn at(&mut self, seconds: u64) {
        self.now = self.start + Duration::from_secs(seconds);
        self.conversation.timeout(self.now);
    }
}

/// All that waits in an inbox, in short.
fn events(inbox: &Inbox<Event>) -> String {
    let mut shown = Vec::new();
    while let Poll::Ready(Some(event)) = pin!(inbox.take()).poll(&mut Context::from_waker(Waker::noop())) {
        shown.push(match event {
            Event::Publication(publication) => publication.position.offset.to_string(),
            Event::Subscribed { position, recovered } => format!("at {position} {recovered:?}"),
            Event::Joined(member) => format!("+{}", member.client),
            Event::Left(member) => format!("-{}", member.client),
            Event::Lagged => "lagged".to_owned(),
            Event::Postponed(refusal) => format!("later {}", refusal.code),
            Event::Refused(refusal) => format!("refused {}", refusal.code),
            Event::Unsubscribed => "unsubscribed".to_owned(),
            Event::Closed(end) => format!("closed {}", end.code),
        });
    }
    shown.join(", ")
}

fn publication(channel: &str, offset: u64) -> Value {
    json!({ "publication": { "channel": channel, "epoch": "e", "offset": offset, "event": "message", "data": offset, "time": 1 } })
}

fn subscribed(id: u64, offset: u64, recovered: Option<bool>) -> Value {
    json!({ "id": id, "subscribed": { "channel": "news", "epoch": "e", "offset": offset, "recovered": recovered } })
}

#[test]
fn subscriptions_go_on_from_the_last_publication_when_the_client_comes_back() {
    let mut talk = Talk::new(Token::None);
    let news = talk.subscribe("news", SubscribeOptions::default());
    let first = talk.meet(json!({}));
    let expected =
        json!([{ "id": 1, "connect": { "token": "t" } }, { "id": 2, "subscribe": { "channel": "news" } }]);
    assert_eq!(first, expected);
    for frame in [subscribed(2, 41, None), publication("news", 42), publication("other", 7)] {
        talk.hears(frame);
    }
    assert_eq!(events(&news.inbox), "at e:41 None, 42");

    talk.conversation.lost(&End::broken("x"));
    // What belongs to no connection is not heard.
    talk.hears(publication("news", 43));
    let again = talk.meet(json!({}));
    let since = json!({ "channel": "news", "since": { "epoch": "e", "offset": 42 } });
    assert_eq!(again[1], json!({ "id": 4, "subscribe": since }));
    for frame in [subscribed(4, 44, Some(true)), publication("news", 43)] {
        talk.hears(frame);
    }
    assert_eq!(events(&news.inbox), "at e:44 Some(true), 43");

    // The connection is lost in the middle of what was missed.
    talk.conversation.lost(&End::broken("x"));
    assert_eq!(talk.meet(json!({}))[1]["subscribe"]["since"]["offset"], 43);
    talk.hears(subscribed(6, 50, Some(false)));
    talk.conversation.lost(&End::broken("x"));
    assert_eq!(talk.meet(json!({}))[1]["subscribe"]["since"]["offset"], 50);
    assert_eq!(events(&news.inbox), "at e:50 Some(false)");
}

#[test]
fn a_reader_that_lags_behind_goes_on_when_it_has_caught_up_and_disturbs_nobody() {
    let mut talk = Talk::new(Token::None);
    let slow = talk.subscribe("news", SubscribeOptions { buffer: 3, ..SubscribeOptions::default() });
    let other = talk.subscribe("other", SubscribeOptions::default());
    talk.meet(json!({}));
    talk.hears(subscribed(2, 0, None));
    talk.hears(json!({ "id": 3, "subscribed": { "channel": "other", "epoch": "e", "offset": 0 } }));
    (1..=4).for_each(|offset| talk.hears(publication("news", offset)));
    talk.hears(publication("other", 1));
    assert_eq!(talk.says(), json!({ "id": 4, "unsubscribe": { "channel": "news" } }));
    assert_eq!(events(&slow.inbox), "at e:0 None, 1, 2, lagged");
    assert_eq!(events(&other.inbox), "at e:0 None, 1");

    talk.conversation.resume("news", slow.serial);
    let since = json!({ "channel": "news", "since": { "epoch": "e", "offset": 2 } });
    assert_eq!(talk.says(), json!({ "id": 5, "subscribe": since }));
    talk.hears(publication("news", 5));
    talk.hears(subscribed(5, 5, Some(true)));
    (3..=4).for_each(|offset| talk.hears(publication("news", offset)));
    assert_eq!(events(&slow.inbox), "at e:5 Some(true), 3, 4");
}

#[test]
fn what_the_server_refuses_ends_a_subscription_or_is_asked_for_again() {
    for (code, expected, again) in [
        (103, "refused 103", false),
        (102, "refused 102", false),
        (109, "refused 109", false),
        (108, "later 108", true),
        (111, "later 111", true),
        (105, "", false),
    ] {
        let mut talk = Talk::new(Token::None);
        let news = talk.subscribe("news", SubscribeOptions::default());
        talk.meet(json!({}));
        talk.hears(json!({ "id": 2, "error": { "code": code, "message": "m" } }));
        assert_eq!(events(&news.inbox), expected, "{code}");
        talk.at(1);
        assert_eq!(talk.says().is_object(), again, "{code}");
    }
}

#[test]
fn what_was_sent_when_the_connection_was_lost_is_unknown_and_what_waits_is_sent_later() {
    let mut talk = Talk::new(Token::None);
    let mut early = talk.ask(&json!({ "n": 1 }));
    talk.meet(json!({}));
    assert_eq!(talk.says(), json!({ "id": 2, "publish": { "n": 1 } }));
    talk.conversation.lost(&End::broken("x"));
    assert_eq!(early.try_recv().unwrap().unwrap_err(), CommandError::Unknown(End::broken("x")));
    let mut waiting = talk.ask(&json!({ "n": 2 }));
    let mut late = talk.ask(&json!({ "n": 3 }));
    talk.meet(json!({}));
    assert_eq!(talk.says().as_array().map(Vec::len), Some(2));
    talk.hears(json!({ "id": 2, "published": {} }));
    talk.hears(json!({ "id": 5, "error": { "code": 103, "message": "m" } }));
    talk.hears(json!({ "id": 4, "published": { "offset": 9 } }));
    assert_eq!(waiting.try_recv().unwrap().unwrap().get(), r#"{"offset":9}"#);
    assert!(matches!(late.try_recv().unwrap(), Err(CommandError::Refused(Refusal { code: 103, .. }))));
}

#[test]
fn a_command_waits_for_a_connection_only_so_long() {
    let mut talk = Talk::new(Token::None);
    let mut waiting = talk.ask(&json!({}));
    talk.at(9);
    assert!(waiting.try_recv().is_err());
    assert_eq!(talk.conversation.deadline(), Some(talk.start + Duration::from_secs(10)));
    talk.at(10);
    let within = Duration::from_secs(10);
    assert_eq!(waiting.try_recv().unwrap().unwrap_err(), CommandError::Timeout { within });
    let mut closed = talk.ask(&json!({}));
    talk.conversation.closed(&End::closed());
    assert_eq!(closed.try_recv().unwrap().unwrap_err(), CommandError::Closed(End::closed()));
}

#[test]
fn messages_are_as_long_as_the_server_takes_and_no_longer() {
    let mut talk = Talk::new(Token::None);
    talk.meet(json!({}));
    let mut long = talk.ask(&json!({ "x": "x".repeat(1_000) }));
    let _others: Vec<_> = (0..100).map(|n| talk.ask(&json!({ "x": "y".repeat(100), "n": n }))).collect();
    let message = talk.conversation.next_message().unwrap();
    assert!((800..=1_000).contains(&message.bytes.len()), "{}", message.bytes.len());
    assert!(matches!(long.try_recv().unwrap(), Err(CommandError::TooLong { bytes_max: 1_000, .. })));
    let mut count = serde_json::from_slice::<Vec<Value>>(&message.bytes).unwrap().len();
    while let Some(message) = talk.conversation.next_message() {
        count += serde_json::from_slice::<Vec<Value>>(&message.bytes).map_or(1, |list| list.len());
    }
    // The rest waits for answers.
    assert_eq!(count, 64);
    talk.hears(json!({ "id": message.first_id, "published": {} }));
    assert!(talk.says().is_object());
}

#[test]
fn channels_of_the_token_are_recovered_by_connect_and_may_be_followed_later() {
    let mut talk = Talk::new(Token::None);
    talk.meet(json!({}));
    talk.hears(json!({ "subscribed": { "channel": "news", "epoch": "e", "offset": 4 } }));
    talk.hears(publication("news", 5));
    let Some(Wish::Tell(told)) = talk.wish() else { panic!("nobody was told") };
    assert_eq!(told, ClientEvent::Given { channel: "news".into() });
    let news = talk.subscribe("news", SubscribeOptions::default());
    assert_eq!((talk.says(), events(&news.inbox)), (Value::Null, "at e:4 None, 5".to_owned()));
    assert_eq!(
        talk.conversation.subscribe("news".into(), SubscribeOptions::default()).unwrap_err(),
        SubscribeError::Taken
    );
    talk.conversation.lost(&End::broken("x"));
    let first = talk.meet(json!({}));
    assert_eq!(first[0]["connect"]["since"], json!({ "news": { "epoch": "e", "offset": 5 } }));
}

#[test]
fn a_token_is_renewed_before_it_is_over() {
    let mut talk = Talk::new(Token::ask(|_| async { Ok("newer".to_owned()) }));
    talk.meet(json!({ "expires_in_ms": 100_000 }));
    talk.at(89);
    assert!(talk.wish().is_none());
    talk.at(90);
    let Some(Wish::Token(_, request, asked)) = talk.wish() else { panic!("no token wanted") };
    assert_eq!(request.reason, TokenReason::Refresh);
    talk.conversation.token(asked.clone(), Err("down".to_owned()), talk.now, 0);
    assert!(matches!(talk.wish(), Some(Wish::Tell(ClientEvent::Trouble(_)))));
    talk.at(95);
    assert!(matches!(talk.wish(), Some(Wish::Token(..))));
    talk.conversation.token(asked.clone(), Ok("newer".to_owned()), talk.now, 0);
    assert_eq!(talk.says(), json!({ "id": 2, "refresh": { "token": "newer" } }));
    talk.hears(json!({ "id": 2, "refreshed": { "expires_in_ms": 100_000 } }));
    assert_eq!(talk.conversation.deadline(), Some(talk.now + Duration::from_secs(90)));
    // A token that comes for an earlier connection is of no use.
    talk.conversation.lost(&End::broken("x"));
    talk.meet(json!({}));
    talk.conversation.token(asked, Ok("late".to_owned()), talk.now, 0);
    assert_eq!(talk.says(), Value::Null);
}

#[test]
fn a_subscription_token_is_asked_for_each_time_and_anew_when_it_has_expired() {
    let mut talk = Talk::new(Token::None);
    let token = Token::ask(|_| async { Ok(String::new()) });
    let news = talk.subscribe("news", SubscribeOptions { token, ..SubscribeOptions::default() });
    talk.meet(json!({}));
    let next = |talk: &mut Talk, reason, token: &str| {
        let Some(Wish::Token(_, request, asked)) = talk.wish() else { panic!("no token wanted") };
        assert_eq!((request.reason, request.channel.as_deref()), (reason, Some("news")));
        talk.conversation.token(asked, Ok(token.to_owned()), talk.now, 0);
        talk.says()["subscribe"]["token"].clone()
    };
    assert_eq!(next(&mut talk, TokenReason::Connect, "a"), "a");
    talk.hears(json!({ "id": 2, "error": { "code": 109, "message": "m" } }));
    talk.at(1);
    assert_eq!(next(&mut talk, TokenReason::Expired, "b"), "b");
    talk.hears(subscribed(3, 1, None));
    assert_eq!(events(&news.inbox), "later 109, at e:1 None");
}
