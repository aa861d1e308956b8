//! What the loop is told by those who run the pair: commands, signals, and what others have found out
//! for it, the arbiter and the disk.

use crossbeam_channel::Sender;
use signal_hook::consts::SIGHUP;

use super::arbiter::ArbiterClient;
use super::control::Command;
use super::run::Run;
use crate::engine::{Known, Obeyed};
use crate::ids::Lsn;
use crate::relay::Order;
use crate::role::Role;
use crate::time::{Duration, Instant};

/// How long a primary that is told to stop tries to hand over first.
const FAREWELL: Duration = Duration::from_secs(2);

/// Operators who may be waiting for their answer.
const UNANSWERED_MAX: usize = 64;

/// Something that was done, and that the standby may not know yet.
pub(super) struct Unanswered {
    text: String,
    lsn: Option<Lsn>,
    reply: Sender<Result<String, String>>,
}

impl Run {
    /// News from the arbiter and the disk, and commands from the control socket.
    pub(super) fn on_wake(&mut self) {
        while let Some((number, reply)) =
            self.outside.assembly.arbiter.as_ref().and_then(ArbiterClient::next_answer)
        {
            self.outside.changed = true;
            // Read when the answer is here: what it shows was written before.
            self.engine.on_arbiter(self.now(), number, reply);
        }
        let now = self.now();
        if self.outside.assembly.news.take() {
            self.engine.on_content(now);
        }
        while let Some(command) = self.outside.assembly.control.next_command() {
            self.outside.changed = true;
            match command {
                Command::Switchover { force, reply } => {
                    let result = self.switch_over(now, force);
                    // The requester may have gone.
                    let _ = reply.try_send(result);
                }
                Command::CaptureStart { spec, reply } => {
                    self.outside.tap.start(spec, &self.engine.status(now), reply);
                }
                Command::CaptureStop { reply } => self.outside.tap.stop(reply),
                Command::Backend { order, reply } => self.order_backend(now, &order, reply),
            }
        }
    }

    /// Says what a backend is there for. Whoever asked is answered when no takeover can forget it any more.
    fn order_backend(
        &mut self,
        now: Instant,
        order: &Order,
        reply: Sender<Result<String, String>>,
    ) {
        if self.outside.unanswered.len() >= UNANSWERED_MAX {
            let _ =
                reply.try_send(Err("the engine is busy: the standby has not confirmed yet".into()));
            return;
        }
        match self.engine.on_backend_order(now, order) {
            Ok(Obeyed { text, lsn }) => {
                log::info!("{}", text.replace('\n', "; "));
                self.outside.unanswered.push(Unanswered { text, lsn, reply });
            }
            // The requester may have gone.
            Err(why) => _ = reply.try_send(Err(why)),
        }
    }

    /// Answers for what the standby knows by now.
    pub(super) fn answer_orders(&mut self) {
        let Self { outside, engine, .. } = self;
        outside.unanswered.retain(|Unanswered { text, lsn, reply }| {
            let known = lsn.map_or(Known::Yes, |lsn| engine.is_known(lsn));
            let text = match known {
                Known::NotYet => return true,
                Known::Yes => text.clone(),
                Known::Alone => format!(
                    "{text}\nthe standby is gone, or has taken over meanwhile: standin status says what holds"
                ),
            };
            let _ = reply.try_send(Ok(text));
            false
        });
    }

    /// What an operator is told of a refusal, with the way round it if there is one.
    fn switch_over(&mut self, now: Instant, force: bool) -> Result<(), String> {
        if force {
            let loses = self.engine.on_switchover(now).err();
            return match loses {
                None => Ok(()),
                Some(why) => self.engine.on_forced_switchover(now).inspect(|()| {
                    log::warn!("handing over as an operator insists, although: {why}");
                }),
            };
        }
        let forcible = self.engine.can_hand_over();
        self.engine.on_switchover(now).map_err(|why| {
            if forcible { format!("{why} (--force hands over all the same)") } else { why }
        })
    }

    /// Told to stop: a primary hands over first, if there is somebody to hand over to, whatever that
    /// loses: its end would lose no less. A standby that is just being brought up to date is waited
    /// for. Told twice: at once. The peer takes over either way; by a hand-over it need not find out.
    pub(super) fn on_signals(&mut self) {
        if !core::mem::take(&mut self.outside.signalled) {
            return;
        }
        let now = self.now();
        let signals: Vec<i32> = self.outside.assembly.signals.pending().collect();
        for signal in signals {
            if signal == SIGHUP {
                continue;
            }
            let first = self.outside.stop_by.is_none();
            self.outside.stop_by =
                Some(now + if first { self.farewell(now) } else { Duration::ZERO });
        }
    }

    /// Hands over, or waits for whom it can hand over to. Returns for how long at most.
    fn farewell(&mut self, now: Instant) -> Duration {
        let status = self.engine.status(now);
        if !matches!(status.role, Role::Primary { .. }) {
            log::info!("told to stop");
            return Duration::ZERO;
        }
        match self.switch_over(now, true) {
            Ok(()) => log::info!("told to stop: handing over"),
            Err(why) if status.snapshot.is_some() => {
                log::warn!("told to stop: waits for the standby: {why}");
                self.outside.leaving = true;
            }
            Err(why) => {
                log::warn!("told to stop, and nobody can be handed the address: {why}");
                return Duration::ZERO;
            }
        }
        FAREWELL
    }

    /// Whether a stop was asked for and there is nothing more to wait for.
    pub(super) fn is_stopped(&mut self) -> bool {
        let Some(stop_by) = self.outside.stop_by else { return false };
        let now = self.now();
        if self.outside.leaving && self.switch_over(now, true).is_ok() {
            self.outside.leaving = false;
            log::info!("handing over");
        }
        now >= stop_by
            || matches!(self.engine.status(now).role, Role::Standby { .. } | Role::Joining)
    }
}
