//! The task of a client: feeds what decides with what happens, and has done what it wants.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::connector::{Connector, Step};
use crate::conversation::{Answer, Asker, Command, Conversation, For, Wish};
use crate::event::{ClientEvent, Listeners};
use crate::line::{Act, WireEvent, WireId};
use crate::options::{Token, TokenRequest, TokenSource};
use crate::subscription::Seat;
use crate::wire::{self, AbortOnDrop, Dialer, Report, Teller, Upload, Write};
use crate::{End, Options, SubscribeError, SubscribeOptions};

/// Commands on their way to the task; more wait with those who ask.
const ASKS_MAX: usize = 64;
/// The same for what is not sent as it is.
const CONTROLS_MAX: usize = 64;
/// What wires tell and the task has not looked at yet; then they stop reading.
const REPORTS_MAX: usize = 64;
/// Messages on their way to a socket. A line knows how many there are, and gives it fewer.
const WRITES_MAX: usize = 256;
/// How long good manners may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How long the task sleeps if nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// A command that somebody waits for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub command: Command,
    pub asker: Asker,
}

/// What else a client is told by its handles.
#[derive(Debug)]
pub(crate) enum Control {
    Subscribe {
        channel: Box<str>,
        options: SubscribeOptions,
        reply: oneshot::Sender<Result<Seat, SubscribeError>>,
    },
    Unsubscribe {
        channel: Box<str>,
        serial: u64,
        done: Option<oneshot::Sender<Answer>>,
    },
    /// The reader of a subscription that lagged behind has read everything.
    Resume {
        channel: Box<str>,
        serial: u64,
    },
    Close(oneshot::Sender<()>),
}

/// A client's task, as its handles see it.
pub(crate) type Handles = (mpsc::Sender<Ask>, mpsc::Sender<Control>);

/// Starts the task of a client.
pub(crate) fn start(dialer: Arc<Dialer>, options: Options) -> (Handles, Arc<Listeners>) {
    let (ask, asks) = mpsc::channel(ASKS_MAX);
    let (control, controls) = mpsc::channel(CONTROLS_MAX);
    let (report, reports) = mpsc::channel(REPORTS_MAX);
    let listeners = Arc::new(Listeners::default());
    let source = match &options.token {
        Token::Ask(source) => Some(source.clone()),
        Token::None | Token::Fixed(_) => None,
    };
    let task = Task {
        connector: Connector::new(&options),
        conversation: Conversation::new(options.form, options.times, source),
        options,
        dialer,
        listeners: Arc::clone(&listeners),
        report,
        turn: 0,
        wires: HashMap::new(),
        post: None,
        farewells: JoinSet::new(),
        tokens: JoinSet::new(),
        closers: Vec::new(),
    };
    tokio::spawn(task.run(Inputs { asks, controls, reports }));
    ((ask, control), listeners)
}

struct Inputs {
    asks: mpsc::Receiver<Ask>,
    controls: mpsc::Receiver<Control>,
    reports: mpsc::Receiver<Report>,
}

struct Task {
    connector: Connector,
    conversation: Conversation,
    options: Options,
    dialer: Arc<Dialer>,
    listeners: Arc<Listeners>,
    report: mpsc::Sender<Report>,
    /// Of the line that `wires` and `post` belong to.
    turn: u64,
    wires: HashMap<WireId, Wire>,
    post: Option<AbortOnDrop>,
    farewells: JoinSet<()>,
    tokens: JoinSet<()>,
    closers: Vec<oneshot::Sender<()>>,
}

struct Wire {
    task: AbortOnDrop,
    writes: Option<mpsc::Sender<Write>>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Task {
    async fn run(mut self, mut inputs: Inputs) {
        self.connector.begin();
        self.settle();
        while !self.connector.is_closed() {
            self.turn(&mut inputs).await;
            self.settle();
        }
        let farewells = async { while self.farewells.join_next().await.is_some() {} };
        // Good manners are not worth more time than this.
        let _ = timeout(FAREWELL_MAX, farewells).await;
        drop(inputs);
        for closer in self.closers {
            // Who does not wait any more does not mind.
            let _ = closer.send(());
        }
    }

    /// Waits for one thing, and takes it in.
    async fn turn(&mut self, inputs: &mut Inputs) {
        let Inputs { asks, controls, reports } = inputs;
        let deadlines = [self.connector.deadline(), self.conversation.deadline()];
        let due = deadlines.into_iter().flatten().min().unwrap_or_else(|| now() + IDLE);
        tokio::select! {
            Some(report) = reports.recv() => self.hear(report),
            control = controls.recv() => match control {
                Some(control) => self.obey(control),
                // The last handle is dropped.
                None => self.connector.close(now()),
            },
            Some(Ask { command, asker }) = asks.recv(), if self.conversation.has_room() => {
                self.conversation.ask(command, asker, now());
            }
            () = sleep_until(due.into()) => {
                let (now, chance) = (now(), wire::chance());
                self.connector.timeout(now, chance);
                self.conversation.timeout(now);
            }
        }
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::Subscribe { channel, options, reply } => {
                let known = self.conversation.subscribe(channel.clone(), options);
                if let Err(Ok(Seat { serial, .. })) = reply.send(known) {
                    self.conversation.unsubscribe(&channel, serial, None);
                }
            }
            Control::Unsubscribe { channel, serial, done } => {
                self.conversation.unsubscribe(&channel, serial, done);
            }
            Control::Resume { channel, serial } => self.conversation.resume(&channel, serial),
            Control::Close(closer) => {
                self.closers.push(closer);
                self.connector.close(now());
            }
        }
    }

    fn hear(&mut self, report: Report) {
        let (now, chance) = (now(), wire::chance());
        match report {
            Report::Wire(turn, wire, event) => {
                if turn == self.turn && matches!(event, WireEvent::Ended(_)) {
                    self.wires.remove(&wire);
                }
                self.connector.wire(turn, wire, event, now, chance);
            }
            Report::Posted(turn, posted) => self.connector.posted(turn, posted, now, chance),
            Report::Token(For::Connection { turn }, token) if self.connector.wants_token(turn) => match token
            {
                Ok(token) => self.dial(Some(&token)),
                Err(problem) => self.connector.no_token(problem, now, chance),
            },
            Report::Token(asked, token) => self.conversation.token(asked, token, now, chance),
        }
    }

    fn dial(&mut self, token: Option<&str>) {
        let first = self.conversation.introduce(token);
        self.connector.dial(first, now());
    }

    /// Has everything done that is wanted now.
    fn settle(&mut self) {
        loop {
            if let Some(step) = self.connector.poll() {
                self.step(step);
            } else if let Some(wish) = self.conversation.poll_wish() {
                self.grant(wish);
            } else if self.connector.writable()
                && let Some(message) = self.conversation.next_message()
            {
                self.connector.send(message, now());
            } else {
                break;
            }
        }
        while self.farewells.try_join_next().is_some() || self.tokens.try_join_next().is_some() {}
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Token { turn, reason } => match self.options.token.clone() {
                Token::None => self.dial(None),
                Token::Fixed(token) => self.dial(Some(&token)),
                Token::Ask(source) => {
                    self.ask_token(&source, TokenRequest { reason, channel: None }, For::Connection { turn });
                }
            },
            Step::Act(turn, act) => {
                if turn != self.turn {
                    self.hang_up();
                    self.turn = turn;
                }
                self.act(act);
            }
            Step::Frame(frame) => self.conversation.take(frame, now(), wire::chance()),
            Step::Quiet => self.conversation.ping(),
            Step::Lost(end) => {
                self.hang_up();
                self.conversation.lost(&end);
            }
            Step::Tell(event) => self.listeners.tell(&event),
            Step::Closed(end) => {
                self.hang_up();
                self.conversation.closed(&end);
                self.listeners.tell(&ClientEvent::Closed(end));
            }
        }
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Token(source, request, asked) => self.ask_token(&source, request, asked),
            Wish::Tell(event) => self.listeners.tell(&event),
            Wish::Greeted(connected) => self.connector.greet(connected, now()),
            Wish::Refused(refusal) => {
                let end = End::new(refusal.code, refusal.message);
                self.connector.abandon(end, now(), wire::chance());
            }
        }
    }

    fn ask_token(&mut self, source: &TokenSource, request: TokenRequest, asked: For) {
        let (report, within) = (self.report.clone(), self.options.times.answer);
        let answer = source.ask(request);
        self.tokens.spawn(async move {
            let token = match timeout(within, answer).await {
                Ok(token) => token.map_err(|error| format!("there is no token: {error}")),
                Err(_) => Err(format!("there was no token within {within:?}")),
            };
            // A client that has ended needs none.
            let _ = report.send(Report::Token(asked, token)).await;
        });
    }

    fn hang_up(&mut self) {
        self.wires.clear();
        self.post = None;
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::OpenSocket { wire, target } => self.open_socket(wire, target),
            Act::OpenResponse { wire, transport, target } => {
                let (dialer, teller) = (Arc::clone(&self.dialer), self.teller(wire));
                let bring = async move { wire::bring(&dialer, target, transport, teller).await };
                let task = AbortOnDrop(tokio::spawn(bring));
                self.wires.insert(wire, Wire { task, writes: None });
            }
            Act::Write { wire, message } => self.write(wire, message),
            Act::Close { wire } => self.close(wire),
            Act::Drop { wire } => drop(self.wires.remove(&wire)),
            Act::Post { target, body } => self.post(target, body),
            Act::Farewell { target } => {
                let (dialer, upload) = (Arc::clone(&self.dialer), self.upload(target, bytes::Bytes::new()));
                let upload = Upload { time_max: FAREWELL_MAX, ..upload };
                self.farewells.spawn(async move {
                    // Whoever leaves does not wait for the answer.
                    let _ = wire::post(&dialer, upload).await;
                });
            }
        }
    }

    fn teller(&self, wire: WireId) -> Teller {
        Teller {
            reports: self.report.clone(),
            turn: self.turn,
            wire,
            form: self.options.form,
            message_bytes_max: self.options.message_bytes_max,
        }
    }

    fn open_socket(&mut self, wire: WireId, target: String) {
        let (write, writes) = mpsc::channel(WRITES_MAX);
        let (dialer, teller) = (Arc::clone(&self.dialer), self.teller(wire));
        let carry = async move { wire::carry(&dialer, target, writes, teller).await };
        let task = AbortOnDrop(tokio::spawn(carry));
        self.wires.insert(wire, Wire { task, writes: Some(write) });
    }

    fn write(&mut self, wire: WireId, message: bytes::Bytes) {
        let Some(Wire { writes: Some(writes), .. }) = self.wires.get(&wire) else { return };
        // A socket that is gone has said so, or is about to.
        if let Err(mpsc::error::TrySendError::Full(_)) = writes.try_send(Write::Message(message)) {
            self.wires.remove(&wire);
            let (end, chance) = (End::broken("too many messages wait in a socket"), wire::chance());
            self.connector.wire(self.turn, wire, WireEvent::Ended(end), now(), chance);
        }
    }

    /// The socket's task ends by itself when the other side has answered, or time is over.
    fn close(&mut self, wire: WireId) {
        let Some(Wire { mut task, writes: Some(writes) }) = self.wires.remove(&wire) else { return };
        if writes.try_send(Write::Close).is_ok() {
            self.farewells.spawn(async move {
                // What it ends with does not matter.
                let _ = timeout(FAREWELL_MAX, &mut task.0).await;
            });
        }
    }

    fn post(&mut self, target: String, body: bytes::Bytes) {
        let (dialer, upload) = (Arc::clone(&self.dialer), self.upload(target, body));
        let (report, turn) = (self.report.clone(), self.turn);
        self.post = Some(AbortOnDrop(tokio::spawn(async move {
            let posted = wire::post(&dialer, upload).await;
            // A client that has ended does not wait for it.
            let _ = report.send(Report::Posted(turn, posted)).await;
        })));
    }

    fn upload(&self, target: String, body: bytes::Bytes) -> Upload {
        Upload { target, body, form: self.options.form, time_max: self.options.times.answer }
    }
}
