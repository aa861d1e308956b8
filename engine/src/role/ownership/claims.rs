//! What this node has asked of the arbiter, and what it was granted.
//!
//! ```text
//!   to own, or to go on alone        swap (a, 4, boot) for (b, 5, boot')     one question
//!   alone                            swap (b, 5, boot') for itself           every fifth of the lease
//!   otherwise                        read                                    every fifth of the lease
//! ```
//!
//! Three things make it safe (`docs/adr/0007`). *Every* ownership is a new write, and of two writes
//! over the same record one fails. A write over a living process' record needs a *title*: that
//! process is bound to our lease, is dead, has consented, or has let its lease run out. And a claim
//! that is given up is never used: a node that changes its mind writes anew.

use super::super::types::{Action, Report};
use super::arbiter::{
    ArbiterPolicy, ArbiterRecord, ArbiterStatus, Ask, Inquiry, LostArbiter, Reply,
};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

/// The arbiter as this node knows it.
#[derive(Debug)]
pub(in crate::role) struct Claims {
    pub(in crate::role) policy: ArbiterPolicy,
    /// Least time from one question to the next when the arbiter does not answer, or will not write.
    pace: Duration,
    number: u64,
    pending: Option<Pending>,
    /// When the next question is due.
    next: Instant,
    pub(in crate::role) seen: Option<Seen>,
    /// The latest record seen that is no claim of this process' that it has not used: what lies
    /// beneath those.
    beneath: Option<Over>,
    boot: u64,
    /// The highest epoch that this process owned.
    used: Epoch,
    answered: Option<Instant>,
    /// Since when it owes an answer.
    lost: Option<Instant>,
    claim: Option<Claim>,
    grant: Option<Grant>,
    /// What stands in the way has been reported.
    reported: Option<Report>,
}

/// A question under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    sent: Instant,
    what: Inquiry,
    /// An owner has its grant renewed, or written down, by it.
    renews: bool,
}

/// What the record was seen to say.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Seen {
    pub(in crate::role) record: Option<ArbiterRecord>,
    revision: u64,
    /// When an answer first showed that record: it was written before.
    pub(in crate::role) since: Instant,
    /// When an answer first showed that write of it.
    unchanged: Instant,
}

/// An epoch that this node wants.
#[derive(Clone, Copy, Debug)]
struct Claim {
    record: ArbiterRecord,
    /// What it is written over.
    expected: Option<ArbiterRecord>,
    /// The same, but for claims of our own that were written and not used.
    over: Over,
    /// The write of that, if only its age is the title.
    revision: Option<u64>,
    /// When it was first asked for: it cannot have been written before.
    since: Instant,
    won: bool,
}

/// What a claim is written over, as far as it shows who has owned.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Over {
    pub(in crate::role) record: Option<ArbiterRecord>,
    /// When an answer first showed it.
    pub(in crate::role) since: Instant,
}

/// An epoch that this node was granted.
#[derive(Clone, Copy, Debug)]
struct Grant {
    record: ArbiterRecord,
    /// When the question left that wrote it last.
    sent: Instant,
}

/// Why a record may be written over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) enum Title {
    /// None.
    None,
    /// The process that it names is not speaking, and will not without a new write.
    Free,
    /// It may be speaking, unless this very write of it has run out.
    Age,
}

/// How a claim stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) enum Permit {
    /// The epoch is ours.
    Granted,
    /// There is no answer, and the policy is to do without.
    Unasked,
    /// Not yet, or not at all.
    Wait,
}

impl Claims {
    pub(in crate::role) fn new(
        now: Instant,
        boot: u64,
        policy: ArbiterPolicy,
        pace: Duration,
    ) -> Self {
        Self {
            policy,
            pace,
            number: 0,
            pending: None,
            next: now,
            seen: None,
            beneath: None,
            boot,
            used: Epoch::NONE,
            answered: None,
            lost: None,
            claim: None,
            grant: None,
            reported: None,
        }
    }

    /// Whether the last question went without an answer.
    pub(in crate::role) const fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether nothing that needs the arbiter can be done now.
    pub(in crate::role) fn is_barred(&self) -> bool {
        self.is_lost() && self.policy.lost == LostArbiter::Stop
    }

    /// Until when this node may speak without a standby.
    pub(in crate::role) fn granted_until(&self) -> Instant {
        match self.policy.lost {
            LostArbiter::Table => Instant::NEVER,
            LostArbiter::Stop => self.grant_ends().unwrap_or(Instant::ZERO),
        }
    }

    fn grant_ends(&self) -> Option<Instant> {
        self.grant.map(|grant| grant.sent + self.policy.term())
    }

    /// How the record that was last seen may be written over, where only its age may be the title.
    fn age(&self, now: Instant) -> Option<u64> {
        let seen = self.seen?;
        (now.since(seen.unchanged) >= self.policy.lease).then_some(seen.revision)
    }

    /// This node wants to own, in an epoch above `known`, which a claim raises.
    pub(in crate::role) fn pursue(
        &mut self,
        now: Instant,
        node: Node,
        boot: u64,
        title: Title,
        known: &mut Epoch,
        actions: &mut impl Extend<Action>,
    ) -> Permit {
        self.drop_stale_claim(now, *known);
        if self.claim.is_some_and(|claim| claim.won) {
            return Permit::Granted;
        }
        let Some(seen) = self.seen else { return self.without(now, actions) };
        let age = self.age(now);
        let (revision, entitled) = match title {
            Title::None => (None, false),
            Title::Free => (None, true),
            Title::Age => (age, age.is_some()),
        };
        if !entitled {
            self.claim = None;
            if let (Some(record), false) = (seen.record, self.is_lost()) {
                self.report_once(Report::NotGranted { record }, actions);
            }
            return self.without(now, actions);
        }
        if self
            .claim
            .is_none_or(|claim| claim.expected != seen.record || claim.revision != revision)
        {
            let after = seen.record.map_or(Epoch::NONE, |record| record.epoch).max(*known);
            let record = ArbiterRecord { owner: node, epoch: after.next_for(node), boot };
            *known = record.epoch;
            let expected = seen.record;
            let over = self.beneath.unwrap_or(Over { record: expected, since: seen.since });
            self.claim = Some(Claim { record, expected, over, revision, since: now, won: false });
            // What was to be asked can wait.
            self.next = self.next.min(now);
            if self.pending.is_some_and(|pending| pending.what == Inquiry::Read) {
                self.pending = None;
            }
        }
        if let Some(Claim { record, expected, .. }) = self.claim
            && self.is_free(now)
        {
            let what = Inquiry::Swap { expected, revision, record };
            self.ask(now, what, false, actions);
        }
        self.without(now, actions)
    }

    /// A claim of long ago would be granted for a term that is over; one below a later epoch would
    /// be no ownership.
    fn drop_stale_claim(&mut self, now: Instant, known: Epoch) {
        let half = self.policy.lease / 2;
        if self
            .claim
            .is_some_and(|claim| now.since(claim.since) >= half || claim.record.epoch < known)
        {
            self.claim = None;
        }
    }

    /// What becomes of a wish that is not granted, for now.
    fn without(&mut self, now: Instant, actions: &mut impl Extend<Action>) -> Permit {
        if self.seen.is_none() && self.is_free(now) {
            self.ask(now, Inquiry::Read, false, actions);
        }
        match (self.is_lost(), self.policy.lost) {
            (true, LostArbiter::Table) => Permit::Unasked,
            (true, LostArbiter::Stop) => {
                self.report_once(Report::Barred, actions);
                Permit::Wait
            }
            (false, _) => Permit::Wait,
        }
    }

    /// The epoch that was won, if one was, and what it was written over. From here on it is the
    /// owner's grant.
    pub(in crate::role) fn take_won(&mut self) -> Option<(Epoch, Over)> {
        let claim = self.claim.take_if(|claim| claim.won)?;
        assert!(claim.record.epoch > self.used, "I3: no epoch is granted to an owner twice");
        self.grant = Some(Grant { record: claim.record, sent: claim.since });
        Some((claim.record.epoch, claim.over))
    }

    /// The epoch of a claim that nobody has answered; it may have been written.
    pub(in crate::role) fn take_unanswered(&mut self) -> Option<Epoch> {
        self.claim.take().map(|claim| claim.record.epoch)
    }

    /// This node owns `epoch` from now on.
    pub(in crate::role) fn note_used(&mut self, epoch: Epoch) {
        assert!(epoch > self.used, "I3: epochs of one process only grow");
        self.used = epoch;
        self.look_beneath();
    }

    fn look_beneath(&mut self) {
        let is_unused =
            |record: ArbiterRecord| record.boot == self.boot && record.epoch > self.used;
        if let Some(Seen { record, since, .. }) = self.seen
            && !record.is_some_and(is_unused)
        {
            self.beneath = Some(Over { record, since });
        }
    }

    /// No wish any more. What is under way may still be written; it is not used.
    pub(in crate::role) fn give_up(&mut self) {
        self.claim = None;
        self.reported = None;
    }

    /// A standby's lease takes the grant's place, or the address is another's.
    pub(in crate::role) fn drop_grant(&mut self) {
        self.grant = None;
        if let Some(pending) = &mut self.pending {
            pending.renews = false;
        }
    }

    /// What a node without a wish has to ask: an owner without a standby, of `alone`, has its grant
    /// renewed or looks for one.
    pub(in crate::role) fn attend(
        &mut self,
        now: Instant,
        alone: Option<(ArbiterRecord, Title)>,
        actions: &mut impl Extend<Action>,
    ) {
        self.check_answer(now, actions);
        if !self.is_free(now) || self.claim.is_some() {
            return;
        }
        let what = match (alone, self.seen) {
            (Some((record, title)), Some(seen)) => self.renewal(now, record, title, seen),
            _ => Inquiry::Read,
        };
        self.ask(now, what, what != Inquiry::Read, actions);
    }

    /// The owner's record written again, over itself or over what has lost its force.
    fn renewal(&self, now: Instant, record: ArbiterRecord, title: Title, seen: Seen) -> Inquiry {
        let expected = seen.record;
        let swap = |revision| Inquiry::Swap { expected, revision, record };
        let lives = self.grant_ends().is_some_and(|ends| now < ends);
        match (expected, title) {
            (Some(found), _) if found == record => swap(None),
            (Some(found), _) if found.epoch >= record.epoch => Inquiry::Read,
            // The arbiter has lost it; others wait for the lease to run out.
            (None, _) if lives => swap(None),
            (_, Title::Free) => swap(None),
            (_, Title::Age) => self.age(now).map_or(Inquiry::Read, |revision| swap(Some(revision))),
            (_, Title::None) => Inquiry::Read,
        }
    }

    /// The record, if it names another process in a later epoch than `epoch`.
    pub(in crate::role) fn overruled(&self, node: Node, epoch: Epoch) -> Option<ArbiterRecord> {
        self.seen?.record.filter(|record| record.owner != node && record.epoch > epoch)
    }

    /// The answer to question `number`, or the news that there will be none.
    pub(in crate::role) fn on_answer(
        &mut self,
        now: Instant,
        number: u64,
        reply: Option<Reply>,
        actions: &mut impl Extend<Action>,
    ) {
        let Some(pending) = self.pending.filter(|pending| pending.number == number) else { return };
        let Some(reply) = reply else { return self.unanswered(now, pending, actions) };
        self.pending = None;
        self.next = pending.sent + self.policy.interval();
        self.answered = Some(now);
        if let Some(since) = self.lost.take() {
            let silent_for = now.since(since);
            actions.extend([Action::Report(Report::ArbiterBack { silent_for })]);
            self.reported = None;
        }
        self.note(now, reply);
        if let Some(claim) = &mut self.claim
            && reply.record == Some(claim.record)
        {
            // Written by this question, or by an earlier one whose answer was lost.
            claim.won = true;
        }
        self.judge_grant(pending, reply);
        if let Inquiry::Swap { expected, .. } = pending.what
            && !reply.written
        {
            // The peer was faster: look again at once. A store that says that it is there and will not
            // write over it is not asked in a hurry.
            self.next = if reply.record == expected { now + self.pace } else { now };
        }
    }

    fn note(&mut self, now: Instant, reply: Reply) {
        let Reply { record, revision, .. } = reply;
        let before = self.seen.filter(|seen| seen.record == record);
        let same = before.filter(|seen| seen.revision == revision);
        self.seen = Some(Seen {
            record,
            revision,
            since: before.map_or(now, |seen| seen.since),
            unchanged: same.map_or(now, |seen| seen.unchanged),
        });
        self.look_beneath();
    }

    /// An owner's grant is extended by a write, counted from when it was asked for, and ends when
    /// the record names another.
    fn judge_grant(&mut self, pending: Pending, reply: Reply) {
        match pending {
            Pending { what: Inquiry::Swap { record, .. }, sent, renews: true, .. }
                if reply.written =>
            {
                self.grant = Some(Grant { record, sent });
            }
            // A store that has lost the record names nobody: the grant runs out by itself.
            _ => {
                let holds = |grant: &Grant| reply.record.is_none_or(|is| is == grant.record);
                self.grant = self.grant.filter(holds);
            }
        }
    }

    fn check_answer(&mut self, now: Instant, actions: &mut impl Extend<Action>) {
        if let Some(pending) = self.pending
            && now.since(pending.sent) >= self.policy.timeout
        {
            self.unanswered(now, pending, actions);
        }
    }

    fn unanswered(&mut self, now: Instant, pending: Pending, actions: &mut impl Extend<Action>) {
        self.pending = None;
        // What is overdue has taken its time: the next question leaves at once. It also finds out
        // what became of the last one, and a standby that was handed the address has not long.
        self.next = now.max(pending.sent + self.pace);
        if self.lost.is_none() {
            self.lost = Some(pending.sent);
            actions.extend([Action::Report(Report::ArbiterLost)]);
        }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.pending.is_none() && now >= self.next
    }

    fn ask(
        &mut self,
        now: Instant,
        what: Inquiry,
        renews: bool,
        actions: &mut impl Extend<Action>,
    ) {
        self.number += 1;
        let number = self.number;
        self.pending = Some(Pending { number, sent: now, what, renews });
        actions.extend([Action::Ask(Ask { number, what })]);
    }

    fn report_once(&mut self, report: Report, actions: &mut impl Extend<Action>) {
        if self.reported != Some(report) {
            self.reported = Some(report);
            actions.extend([Action::Report(report)]);
        }
    }

    pub(in crate::role) fn status(&self, now: Instant) -> ArbiterStatus {
        ArbiterStatus {
            answers: !self.is_lost(),
            answered: self.answered.map(|at| now.since(at)),
            record: self.seen.and_then(|seen| seen.record),
            granted_for: self.grant_ends().filter(|ends| *ends > now).map(|ends| ends.until(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn claims() -> Claims {
        let policy = ArbiterPolicy {
            lost: LostArbiter::Stop,
            lease: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
        };
        Claims::new(at(0), 2, policy, Duration::from_millis(100))
    }

    const THEIRS: ArbiterRecord = ArbiterRecord { owner: Node::A, epoch: Epoch(4), boot: 1 };

    /// What is asked when node `b`, process 2, wants to own, and what comes of it.
    fn want(claims: &mut Claims, now: Instant, known: &mut Epoch) -> (Permit, Option<Ask>) {
        let mut actions = Vec::new();
        let permit = claims.pursue(now, Node::B, 2, Title::Free, known, &mut actions);
        let ask = actions.iter().find_map(|action| match action {
            Action::Ask(ask) => Some(*ask),
            _ => None,
        });
        (permit, ask)
    }

    fn answer(
        claims: &mut Claims,
        now: Instant,
        ask: Option<Ask>,
        record: ArbiterRecord,
        written: bool,
    ) {
        let number = ask.expect("something was asked").number;
        let reply = Reply { record: Some(record), revision: 9, written };
        claims.on_answer(now, number, Some(reply), &mut Vec::new());
    }

    fn wanted(ask: Option<Ask>) -> ArbiterRecord {
        match ask.expect("something was asked").what {
            Inquiry::Swap { expected: Some(_), revision: None, record } => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_claim_that_was_given_up_is_never_used() {
        let (mut claims, mut known) = (claims(), Epoch(4));
        let (_, read) = want(&mut claims, at(10), &mut known);
        answer(&mut claims, at(11), read, THEIRS, false);
        let (permit, asked) = want(&mut claims, at(11), &mut known);
        let given_up = wanted(asked);
        assert_eq!((permit, given_up.epoch), (Permit::Wait, Epoch(5)));
        claims.give_up();
        answer(&mut claims, at(20), asked, given_up, true);
        let now = at(2000);
        let (permit, asked) = want(&mut claims, now, &mut known);
        assert_eq!(permit, Permit::Wait, "it has been consented away since, perhaps");
        assert_eq!(wanted(asked).epoch, Epoch(7));
        assert!(claims.take_won().is_none());
    }

    #[test]
    fn an_answer_that_was_lost_is_found_and_counts_from_the_first_question() {
        let (mut claims, mut known) = (claims(), Epoch(4));
        let (_, read) = want(&mut claims, at(10), &mut known);
        answer(&mut claims, at(11), read, THEIRS, false);
        let (_, asked) = want(&mut claims, at(11), &mut known);
        let record = wanted(asked);
        claims.attend(at(511), None, &mut Vec::new());
        assert!(claims.is_barred());
        let (_, again) = want(&mut claims, at(611), &mut known);
        assert_eq!(wanted(again), record, "the same claim");
        // Refused, since it had been granted.
        answer(&mut claims, at(620), again, record, false);
        assert_eq!(want(&mut claims, at(620), &mut known).0, Permit::Granted);
        assert_eq!(
            claims.take_won().map(|(epoch, over)| (epoch, over.record)),
            Some((Epoch(5), Some(THEIRS)))
        );
        assert_eq!(claims.granted_until(), at(11 + 4500));
    }

    #[test]
    fn a_claim_over_an_unused_one_of_ours_is_over_what_lies_beneath() {
        let (mut claims, mut known) = (claims(), Epoch(4));
        let (_, read) = want(&mut claims, at(10), &mut known);
        answer(&mut claims, at(11), read, THEIRS, false);
        let (_, asked) = want(&mut claims, at(11), &mut known);
        let given_up = wanted(asked);
        claims.give_up();
        answer(&mut claims, at(20), asked, given_up, true);
        let (_, again) = want(&mut claims, at(2000), &mut known);
        answer(&mut claims, at(2001), again, wanted(again), true);
        let (epoch, over) = claims.take_won().expect("it was written");
        assert_eq!((epoch, over.record), (Epoch(7), Some(THEIRS)));
        claims.note_used(epoch);
        let used = wanted(again);
        let (_, last) = want(&mut claims, at(4000), &mut known);
        answer(&mut claims, at(4001), last, wanted(last), true);
        assert_eq!(claims.take_won().expect("written").1.record, Some(used));
    }

    #[test]
    fn age_is_of_a_write_and_not_of_a_record() {
        let (mut claims, mut known) = (claims(), Epoch(4));
        let look = |claims: &mut Claims, now, revision| {
            let mut actions = Vec::new();
            claims.attend(now, None, &mut actions);
            let Some(Action::Ask(ask)) = actions.first() else { panic!("{actions:?}") };
            let reply = Reply { record: Some(THEIRS), revision, written: false };
            claims.on_answer(now, ask.number, Some(reply), &mut Vec::new());
        };
        look(&mut claims, at(0), 8);
        look(&mut claims, at(3000), 9);
        let mut old = |claims: &mut Claims, now| {
            let mut actions = Vec::new();
            let permit = claims.pursue(now, Node::B, 2, Title::Age, &mut known, &mut actions);
            assert_eq!(permit, Permit::Wait);
            actions.into_iter().find_map(|action| match action {
                Action::Ask(Ask { what: Inquiry::Swap { revision, .. }, .. }) => revision,
                _ => None,
            })
        };
        assert_eq!(old(&mut claims, at(7999)), None);
        assert_eq!(old(&mut claims, at(8000)), Some(9));
    }
}
