//! Reading history, and publishing once, as a client and as a backend.

mod support;

use serde_json::{Value, json};

use support::http::{request, say};
use support::native::{Client, offset};
use support::{options, start};

fn offsets(page: &Value) -> Vec<u64> {
    page["publications"].as_array().expect("a page has publications").iter().map(offset).collect()
}

#[test]
fn a_client_reads_page_by_page_until_it_is_where_the_channel_is() {
    let server = start(options());
    for number in 1..=5 {
        say(server.address, "news", &number.to_string());
    }
    let mut client = Client::connect(server.address);
    let mut since = Value::Null;
    let mut pages = Vec::new();
    loop {
        let answer = client.ask(&json!({"history": {"channel": "news", "limit": 2, "since": since}}));
        let page = &answer["history"];
        assert_eq!((&page["channel"], offset(page)), (&json!("news"), 5));
        let read = offsets(page);
        let Some(last) = read.last() else { break };
        since = json!({"epoch": page["epoch"], "offset": last});
        pages.push(read);
    }
    assert_eq!(pages, [vec![1, 2], vec![3, 4], vec![5]]);
    let lost = client.ask(&json!({"history": {"channel": "news", "since": {"epoch": "0", "offset": 1}}}));
    assert_eq!(lost["error"]["code"], 112);
}

#[test]
fn a_backend_reads_the_same_publications_as_clients_get() {
    let server = start(options());
    let (mut client, _) = Client::subscribe(server.address, "news");
    say(server.address, "news", "hello");
    let live = client.publication();
    let post = |body: &str| request(server.address, "POST /api/v1/history HTTP/1.1", body);
    let answer = post(r#"{"channel":"news","reverse":true}"#);
    let page: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &page["publications"][0]), (200, &live));
    let empty: Value = serde_json::from_str(&post(r#"{"channel":"nowhere"}"#).body).expect("JSON");
    assert_eq!((offset(&empty), offsets(&empty)), (0, vec![]));
    for (body, status) in [
        (r#"{"channel":"news","since":{"epoch":"0","offset":1}}"#, 409),
        (r#"{"channel":"news","limit":0}"#, 400),
        (r#"{"channel":""}"#, 400),
        ("null", 400),
        ("", 400),
    ] {
        assert_eq!(post(body).status, status, "{body}");
    }
}

#[test]
fn a_page_of_large_publications_ends_early_and_goes_on() {
    let server = start(options());
    let text = "x".repeat(60_000);
    for _ in 0..8 {
        say(server.address, "news", &text);
    }
    let mut client = Client::connect(server.address);
    let first = client.ask(&json!({"history": {"channel": "news"}}));
    assert_eq!(offsets(&first["history"]), [1, 2, 3, 4]);
    let since = json!({"epoch": first["history"]["epoch"], "offset": 4});
    let second = client.ask(&json!({"history": {"channel": "news", "since": since}}));
    assert_eq!(offsets(&second["history"]), [5, 6, 7, 8]);
}

#[test]
fn a_publisher_that_is_not_sure_repeats_itself_and_is_heard_once() {
    let server = start(options());
    let (mut client, _) = Client::subscribe(server.address, "news");
    let post = |body: &str| request(server.address, "POST /api/v1/publish HTTP/1.1", body);
    let once = r#"{"channel":"news","data":"paid","idempotency_key":"order 7"}"#;
    let first = post(once);
    let again = post(once);
    assert_eq!((first.status, again.status, &again.body), (200, 200, &first.body));
    let other = post(r#"{"channel":"news","data":"cancelled","idempotency_key":"order 7"}"#);
    assert_eq!(other.status, 409);
    let by_client = json!({"publish": {"channel": "news", "data": "no", "idempotency_key": "order 7"}});
    assert_eq!(client.publication()["data"], "paid");
    assert_eq!(client.ask(&by_client)["error"]["code"], 113);
    say(server.address, "news", "last");
    assert_eq!(client.publication()["data"], "last");
}
