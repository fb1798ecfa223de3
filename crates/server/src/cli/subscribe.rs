//! `duplex sub`: prints what is published.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use duplex_client::{
    Client, ClientEvent, Event, Member, Position, Publication, SubscribeOptions, Subscription,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::remote::{self, Failure, advice, tell};

const ABOUT: &str = "Print what is published in channels, as it comes";
const LONG_ABOUT: &str = "Print what is published in channels, as it comes, until Ctrl-C. When the connection is lost it comes \
    back and goes on where it was; what happens to the connection is told on the standard error.";
/// Events of all channels that wait to be printed; then each channel's own queue fills.
const EVENTS_MAX: usize = 64;

pub(super) fn command() -> Command {
    let channels = Arg::new("channel").value_name("CHANNEL").required(true).action(ArgAction::Append);
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    let since = Arg::new("since").long("since").value_name("EPOCH:OFFSET");
    Command::new("sub")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .arg(channels.num_args(1..).help("Which channels"))
        .arg(json.help("One publication as a JSON object on each line, as docs/protocol.md describes it"))
        .arg(
            since.help("Begin behind this position, where history reaches back to it; only with one channel"),
        )
        .args(remote::arguments())
}

/// Prints until it is told to stop.
pub(super) fn run(given: &ArgMatches) -> ExitCode {
    remote::run(follow(given))
}

/// How publications are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Human,
    Json,
}

/// Something to print, or the end of a channel.
enum News {
    Happened(Box<str>, Event),
    Ended,
}

async fn follow(given: &ArgMatches) -> Result<(), Failure> {
    let channels: Vec<String> = given.get_many::<String>("channel").into_iter().flatten().cloned().collect();
    let since = since(given, channels.len())?;
    let style = if given.get_flag("json") { Style::Json } else { Style::Human };
    let client = remote::client(given)?;
    let mut news = subscribe(&client, &channels, since).await?;
    let followed = tokio::select! {
        followed = print_all(&client, channels.len(), &mut news, style) => followed,
        () = stopped() => Ok(()),
    };
    client.close().await;
    followed
}

fn since(given: &ArgMatches, channels: usize) -> Result<Option<Position>, Failure> {
    let Some(text) = given.get_one::<String>("since") else { return Ok(None) };
    if channels > 1 {
        return Err(Failure::new("--since: each channel has positions of its own; give one channel"));
    }
    text.parse().map(Some).map_err(|error| Failure::new(format!("--since: {text:?} {error}")))
}

async fn subscribe(
    client: &Client,
    channels: &[String],
    since: Option<Position>,
) -> Result<mpsc::Receiver<News>, Failure> {
    let (passed, news) = mpsc::channel(EVENTS_MAX);
    for channel in channels {
        let options = SubscribeOptions { since: since.clone(), ..SubscribeOptions::default() };
        let subscription = client.subscribe(channel, options).await;
        let subscription = subscription.map_err(|error| Failure::new(format!("{channel:?}: {error}")))?;
        tokio::spawn(pass_on(subscription, passed.clone()));
    }
    Ok(news)
}

/// Ends with the channel, or when nobody prints any more.
async fn pass_on(mut subscription: Subscription, passed: mpsc::Sender<News>) {
    let channel: Box<str> = subscription.channel().into();
    while let Some(event) = subscription.next().await {
        if passed.send(News::Happened(channel.clone(), event)).await.is_err() {
            return;
        }
    }
    // Whoever printed has stopped, and does not mind.
    let _ = passed.send(News::Ended).await;
}

async fn print_all(
    client: &Client,
    mut open: usize,
    news: &mut mpsc::Receiver<News>,
    style: Style,
) -> Result<(), Failure> {
    let mut events = client.events();
    let mut refused = None;
    while open > 0 {
        tokio::select! {
            Some(event) = events.next() => tell_client_event(event)?,
            Some(news) = news.recv() => match news {
                News::Happened(channel, Event::Refused(refusal)) => {
                    tell(format_args!("{channel}: not subscribed: {refusal}"));
                    refused = Some(Failure::new("not everything could be subscribed to"));
                }
                News::Happened(channel, event) => {
                    // A reader that has gone, such as `head`, has what it wanted.
                    if print_event(&channel, &event, style).is_err() {
                        return Ok(());
                    }
                }
                News::Ended => open -= 1,
            },
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Says on the standard error what happens to the connection.
fn tell_client_event(event: ClientEvent) -> Result<(), Failure> {
    match event {
        ClientEvent::Connected { transport, user, .. } => {
            let user = user.map(|user| format!(" as {user}")).unwrap_or_default();
            tell(format_args!("connected{user} over {transport}"));
        }
        ClientEvent::Transport(transport) => tell(format_args!("over {transport} now")),
        ClientEvent::Disconnected { end, after } => {
            let seconds = after.as_secs_f64();
            tell(format_args!("not connected: {end}; trying again in {seconds:.1} s"));
        }
        ClientEvent::Given { channel } => {
            tell(format_args!("the token also gives {channel}; name it to follow it"))
        }
        ClientEvent::Trouble(problem) => tell(format_args!("{problem}")),
        ClientEvent::Closed(end) => {
            return Err(Failure::new(format!("the server does not want us: {end}. {}", advice(end.code))));
        }
    }
    Ok(())
}

fn print_event(channel: &str, event: &Event, style: Style) -> io::Result<()> {
    match event {
        Event::Publication(publication) => return print_publication(publication, style),
        Event::Subscribed { position, recovered: None } => {
            tell(format_args!("{channel}: from {position} on"))
        }
        Event::Subscribed { recovered: Some(true), .. } => {
            tell(format_args!("{channel}: back, nothing is missing"));
        }
        Event::Subscribed { position, recovered: Some(false) } => {
            eprintln!(
                "duplex: {channel}: back, but what was published meanwhile is lost; from {position} on"
            );
        }
        Event::Joined(member) => eprintln!("duplex: {channel}: {} joined", name(member)),
        Event::Left(member) => eprintln!("duplex: {channel}: {} left", name(member)),
        Event::Lagged => tell(format_args!("{channel}: printing is too slow; catching up")),
        Event::Postponed(refusal) => tell(format_args!("{channel}: not subscribed yet: {refusal}")),
        Event::Refused(_) | Event::Unsubscribed | Event::Closed(_) => {}
    }
    Ok(())
}

fn name(member: &Member) -> &str {
    member.user.as_deref().unwrap_or(&member.client)
}

fn print_publication(publication: &Publication, style: Style) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match style {
        Style::Json => writeln!(out, "{}", one_line(publication.json()))?,
        Style::Human => {
            let Publication { channel, event, time_ms, .. } = publication;
            let (time, payload) = (clock(*time_ms), one_line(publication.payload()));
            writeln!(out, "{time}  {channel}  {event}  {payload}")?;
        }
    }
    out.flush()
}

/// In JSON a line break can only be white space between tokens.
fn one_line(json: &str) -> String {
    json.replace(['\r', '\n'], " ")
}

/// The time of day in UTC.
fn clock(time_ms: u64) -> String {
    let (seconds, ms) = (time_ms / 1_000, time_ms % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

/// Ctrl-C, or a polite request to end.
async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_day_in_utc() {
        for (time_ms, shown) in
            [(0, "00:00:00.000Z"), (1_732_330_000_123, "02:46:40.123Z"), (1_732_406_399_999, "23:59:59.999Z")]
        {
            assert_eq!(clock(time_ms), shown);
        }
    }
}
