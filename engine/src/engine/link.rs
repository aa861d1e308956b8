//! The replication stream as the engine sees it: greetings, frames, heartbeats.

use super::Engine;
use super::hosts::VERSION_HOSTS;
use super::notice::{Breach, Notice};
use super::setup::{Action, LinkInput};
use crate::ids::{Epoch, Lsn};
use crate::replica::{Follower, Frame, FrameReader, Heartbeat, Hello, Part, Refusal, Versions};
use crate::role::{Beat, BeatRole, Echo, LinkEvent, Path, Role};
use crate::time::Instant;

/// Bytes that wait for the peer beyond which it gets no answer to a ping: who asks and does not
/// read shall not cost memory.
const PINGS_MAX: usize = 1024 * 1024;

/// How far the two ends have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// No stream.
    #[default]
    Down,
    /// A stream; the peer has not said who it is.
    Greeting,
    /// The peer is who it should be, and agrees on the configuration.
    Up,
}

/// The replication stream.
#[derive(Debug, Default)]
pub(super) struct Link {
    stage: Stage,
    /// The version that both ends speak; 0 before the greetings. What came with a later one is not
    /// said here.
    pub(super) version: u16,
    /// What the standby's last confirmation on this stream said of connections that it could not go
    /// on with, and at which position.
    pub(super) told: Option<(Lsn, u32)>,
    reader: FrameReader,
    /// Whether the log is this stream's: it began with a snapshot here. A stream that comes up
    /// while the role machine still counts on the last one carries none.
    pub(super) carries_log: bool,
    /// Bytes for the peer that the host has not taken yet.
    pub(super) output: Vec<u8>,
}

impl Link {
    /// Whether what came with `version` of the protocol may be said.
    pub(super) fn speaks(&self, version: u16) -> bool {
        self.is_up() && self.version >= version
    }

    /// Whether the peer at the other end is our peer.
    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Engine {
    /// Something happened to the replication stream.
    pub fn on_link(&mut self, now: Instant, input: LinkInput<'_>) {
        match input {
            LinkInput::Connected => self.greet(now),
            LinkInput::Data(bytes) => self.on_link_data(now, bytes),
            LinkInput::Closed => {
                self.link.reset();
                self.roles.on_link(now, LinkEvent::Lost);
                self.follow_roles(now);
                self.unattended(now);
            }
            LinkInput::Refused => self.roles.on_link(now, LinkEvent::Refused),
            LinkInput::Incompatible(why) => {
                self.on_incompatible(now, why.to_owned());
                self.link.reset();
                self.roles.on_link(now, LinkEvent::Incompatible);
                self.unattended(now);
            }
        }
        self.follow_roles(now);
    }

    /// Closes the open batch and gives the bytes that the peer shall have. The host takes from the
    /// front what it could write.
    pub(crate) fn link_output(&mut self, now: Instant) -> &mut Vec<u8> {
        self.flush_log(now);
        self.tell_exposure();
        &mut self.link.output
    }

    pub(super) fn flush_log(&mut self, now: Instant) {
        if let Some(standby) = self.duty.standby_mut()
            && self.link.carries_log
        {
            let clock = self.clock.at(now).as_nanos();
            standby.log.flush(self.roles.epoch(), clock, &mut self.link.output);
        }
    }

    fn greet(&mut self, now: Instant) {
        self.link.reset();
        self.unattended(now);
        self.link.stage = Stage::Greeting;
        Frame::Hello(self.hello()).encode(&mut self.link.output);
    }

    fn hello(&self) -> Hello {
        Hello {
            versions: Versions::OURS,
            node: self.setup.node,
            boot: self.setup.boot,
            role: self.roles.beat_role().to_u8(),
            epoch: self.roles.epoch(),
            config: parts(&self.setup.parts),
            config_3: parts(&self.setup.parts_3),
        }
    }

    fn on_link_data(&mut self, now: Instant, bytes: &[u8]) {
        if self.link.stage == Stage::Down {
            // What was under way when we hung up.
            return;
        }
        self.roles.on_link_data(now);
        let mut reader = core::mem::take(&mut self.link.reader);
        let mut input = bytes;
        let result = loop {
            match reader.next(&mut input) {
                Ok(Some(frame)) => {
                    if let Err(why) = self.on_link_frame(now, &frame) {
                        break Err(why);
                    }
                    if self.link.stage == Stage::Down {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation.into()),
            }
        };
        if self.link.stage != Stage::Down {
            self.link.reader = reader;
        }
        match result {
            Ok(()) => self.confirm(),
            Err(breach) => self.break_link(now, breach),
        }
    }

    fn on_link_frame(&mut self, now: Instant, frame: &Frame<'_>) -> Result<(), Breach> {
        match (self.link.stage, frame) {
            (Stage::Greeting, Frame::Hello(hello)) => self.on_hello(now, hello),
            (Stage::Up, Frame::Log { first, epoch, clock, records }) => {
                Ok(self.on_log(now, *first, *epoch, *clock, records)?)
            }
            (Stage::Up, Frame::Confirm { lsn, unprotected })
                if self.is_attached() && self.link.carries_log =>
            {
                self.link.told = Some((*lsn, *unprotected));
                self.on_confirm(now, *lsn);
                Ok(())
            }
            // A confirmation that crossed a change of role.
            (Stage::Up, Frame::Confirm { .. }) => Ok(()),
            (Stage::Up, Frame::Handover { epoch, lsn }) => self.on_handover(now, *epoch, *lsn),
            (_, Frame::Refuse { text, .. }) => {
                self.on_incompatible(now, (*text).to_owned());
                self.hang_up(now);
                self.roles.on_link(now, LinkEvent::Incompatible);
                Ok(())
            }
            (_, Frame::Ping { .. }) if self.link.output.len() > PINGS_MAX => Ok(()),
            (_, Frame::Ping { token }) => {
                Frame::Pong { token: *token }.encode(&mut self.link.output);
                Ok(())
            }
            (_, Frame::Pong { .. }) => Ok(()),
            (Stage::Up, Frame::Host(word)) => {
                self.on_peer_host(now, word);
                Ok(())
            }
            (Stage::Greeting, _) => Err(Breach::NoGreeting),
            (_, Frame::Hello(_)) => Err(Breach::SecondGreeting),
            (Stage::Down, _) => Err(Breach::AfterEnd),
        }
    }

    fn on_hello(&mut self, now: Instant, hello: &Hello) -> Result<(), Breach> {
        let compared = self.hello().compare(hello);
        if let Ok(version) = compared {
            self.cookies.note_version(now, version);
        }
        if let Err(mismatch) = &compared {
            let reason = mismatch.to_string();
            Frame::Refuse { reason: Refusal::Incompatible, text: &reason }
                .encode(&mut self.link.output);
            self.on_incompatible(now, reason);
            self.hang_up(now);
            self.roles.on_link(now, LinkEvent::Incompatible);
            return Ok(());
        }
        (self.link.stage, self.link.version) = (Stage::Up, compared.unwrap_or_default());
        let role = BeatRole::from_u8(hello.role).ok_or(Breach::UnknownRole)?;
        self.roles.on_link(now, LinkEvent::Up { boot: hello.boot, epoch: hello.epoch, role });
        let owned_before = self.owns();
        self.follow_roles(now);
        self.incompatible.clear();
        self.meet_host(now);
        match self.roles.role() {
            // In duplex the horizons stay where the last stream left them (I1, I2): the standby
            // may take over with what it had, until the role machine knows that it will not.
            Role::Primary { duplex: false } if owned_before => self.attach_if_trusted(now),
            // Each stream carries a log of its own.
            Role::Standby { .. } => {
                let epoch = self.roles.epoch();
                if let Some(following) = self.duty.following_mut() {
                    following.follower = Some(Follower::new(epoch));
                }
            }
            Role::Primary { .. } | Role::Joining | Role::Silent => {}
        }
        Ok(())
    }

    fn on_log(
        &mut self,
        now: Instant,
        first: Lsn,
        epoch: Epoch,
        clock: u64,
        records: &[u8],
    ) -> Result<(), crate::replica::Violation> {
        // Records that crossed a change of role are nobody's.
        if epoch < self.roles.epoch() {
            return Ok(());
        }
        let following = self.duty.following_mut();
        let Some(mut follower) = following.and_then(|of| of.follower.take()) else {
            return Ok(());
        };
        let fresh = follower.applied() == Lsn::ZERO;
        follower.on_log(first, epoch)?;
        self.clock.heard(now, clock, fresh);
        let mut records = records;
        while let Some((lsn, record)) = follower.next(&mut records)? {
            self.apply(now, epoch, lsn, &record)?;
        }
        if let Some(following) = self.duty.following_mut() {
            following.follower = Some(follower);
        }
        self.follow_roles(now);
        Ok(())
    }

    fn on_handover(&mut self, now: Instant, epoch: Epoch, lsn: Lsn) -> Result<(), Breach> {
        // One that crossed a change of role offers an epoch that has begun without it.
        if epoch <= self.roles.epoch() {
            return Ok(());
        }
        let Some(follower) = self.follower() else { return Ok(()) };
        if follower.applied() != lsn {
            return Err(Breach::EarlyHandover);
        }
        self.roles.on_handover(now);
        self.follow_roles(now);
        Ok(())
    }

    /// The peer's log, as far as it is followed.
    fn follower(&self) -> Option<&Follower> {
        self.duty.following()?.follower.as_ref()
    }

    /// One confirmation for everything that arrived together.
    fn confirm(&mut self) {
        if self.link.output.len() > PINGS_MAX {
            // A peer that does not read is told later: confirmations are cumulative.
            return;
        }
        let following = self.duty.following_mut();
        if let Some(lsn) = following.and_then(|of| of.follower.as_mut()?.confirm()) {
            let unprotected = self.unprotected;
            Frame::Confirm { lsn, unprotected }.encode(&mut self.link.output);
            self.link.told = Some((lsn, unprotected));
        }
    }

    /// A disk may learn without any record that a connection can, or cannot, be gone on with: the
    /// primary is told at once. Up to version 3 it learns by the next heartbeat.
    fn tell_exposure(&mut self) {
        let unprotected = self.unprotected;
        let Some(lsn) = self.follower().map(Follower::applied) else { return };
        let news = self.link.told.is_some_and(|(_, told)| told != unprotected);
        if news && self.link.speaks(VERSION_HOSTS) && self.link.output.len() <= PINGS_MAX {
            Frame::Confirm { lsn, unprotected }.encode(&mut self.link.output);
            self.link.told = Some((lsn, unprotected));
        }
    }

    /// How many connections the peer could not go on with, by its latest word. What it confirmed on the
    /// stream is later than a heartbeat that had applied less; one of version 4 says all of it there.
    pub(super) fn peer_unprotected(&self) -> u32 {
        let beat = self.peer.as_ref().map_or(0, |beat| beat.unprotected);
        match self.link.told {
            Some((_, told)) if self.link.speaks(VERSION_HOSTS) => told,
            Some((lsn, told)) if self.peer.as_ref().is_none_or(|beat| beat.applied < lsn) => told,
            Some(_) | None => beat,
        }
    }

    /// The peer broke the protocol: the stream ends, and says why.
    pub(super) fn break_link(&mut self, now: Instant, breach: Breach) {
        self.report(Notice::PeerBroke(breach));
        self.hang_up(now);
        self.roles.on_link(now, LinkEvent::Lost);
        self.follow_roles(now);
    }

    /// Ends the stream. What was to be sent before the end, a refusal say, still is.
    pub(super) fn hang_up(&mut self, now: Instant) {
        let output = core::mem::take(&mut self.link.output);
        self.link = Link { output, ..Link::default() };
        self.actions.push_back(Action::HangUp);
        self.unattended(now);
    }

    /// The stream is gone. In duplex the role machine decides what becomes of the connections; a
    /// newcomer that never got so far is simply forgotten.
    fn unattended(&mut self, now: Instant) {
        if self.is_attached() && self.roles.role() == (Role::Primary { duplex: false }) {
            self.detach_standby(now);
        }
    }

    /// A heartbeat arrived, decrypted.
    pub fn on_beat(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let Ok(heartbeat) = Heartbeat::decode(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        if heartbeat.node != self.setup.node.peer() {
            return;
        }
        let Some(beat) = beat_of(&heartbeat) else { return };
        #[cfg(feature = "defects")]
        let beat = self.taken_as_answer(now, beat);
        // What nobody answers for may be a recording: its clock, too, is of another time.
        if self.roles.on_heartbeat(now, path, &beat) {
            if !self.owns() && heartbeat.clock != 0 {
                self.clock.heard(now, heartbeat.clock, false);
            }
            self.peer = Some(heartbeat);
        }
        self.follow_roles(now);
    }

    /// What goes out with a beat besides what the role machine says.
    pub(super) fn heartbeat(&mut self, now: Instant, beat: &Beat) -> Vec<u8> {
        let Beat {
            node,
            boot,
            sequence,
            epoch,
            role,
            sent,
            echo,
            synced,
            lan_ok,
            arbiter_ok,
            fit,
            hears_lan,
        } = *beat;
        // A peer of version 3 knows of connections alone that would be lost.
        let unfit = u32::from(!fit && !self.link.speaks(VERSION_HOSTS));
        Heartbeat {
            node,
            role: role.to_u8(),
            synced,
            lan_ok,
            arbiter_ok,
            boot,
            epoch,
            sequence,
            sent,
            echo: echo.sent,
            echo_boot: echo.boot,
            applied: self.follower().map_or(Lsn::ZERO, Follower::applied),
            clock: if self.owns() { self.clock.at(now).as_nanos() } else { 0 },
            unprotected: self.unprotected.max(unfit),
            fit,
            hears_lan,
        }
        .encode()
        .to_vec()
    }
}

/// What the role machine needs of a heartbeat. `None`: a role that this version does not know.
fn beat_of(heartbeat: &Heartbeat) -> Option<Beat> {
    let Heartbeat {
        node,
        role,
        synced,
        lan_ok,
        arbiter_ok,
        boot,
        epoch,
        sequence,
        sent,
        echo,
        echo_boot,
        fit,
        hears_lan,
        ..
    } = *heartbeat;
    let echo = Echo { boot: echo_boot, sent: echo };
    Some(Beat {
        node,
        boot,
        sequence,
        epoch,
        role: BeatRole::from_u8(role)?,
        sent,
        echo,
        synced,
        lan_ok,
        arbiter_ok,
        fit,
        hears_lan,
    })
}

fn parts(of: &[(String, u64)]) -> Vec<Part> {
    of.iter().map(|(name, digest)| Part::new(name, *digest)).collect()
}
