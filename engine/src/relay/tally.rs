//! What is counted of splices, and for whom: by stage, by backend, and by the client's address, so that
//! none takes all of them.

use super::*;
use crate::sources::Source;

/// What a client's splice counts for: at its relay, and at all of them.
pub(super) fn scopes(client: &FourTuple) -> [Source; 2] {
    [Source::at_port(client), Source::of(client)]
}

impl Relays {
    /// Keeps all that is counted of splices: one comes from a stage, or from nowhere, and to another.
    pub(super) fn count(
        &mut self,
        client: &FourTuple,
        at: Option<(u16, u16)>,
        from: Option<Stage>,
        to: Option<Stage>,
    ) {
        let is = |at: Option<Stage>, stage| usize::from(at == Some(stage));
        assert!(self.half_open >= is(from, Stage::HalfOpen), "no splice leaves a stage uncounted");
        assert!(self.lingering >= is(from, Stage::Over), "no splice leaves a stage uncounted");
        self.half_open = self.half_open + is(to, Stage::HalfOpen) - is(from, Stage::HalfOpen);
        self.lingering = self.lingering + is(to, Stage::Over) - is(from, Stage::Over);
        match (from == Some(Stage::Open), to == Some(Stage::Open)) {
            (false, true) => scopes(client).into_iter().for_each(|of| self.sources.add(of)),
            (true, false) => scopes(client).into_iter().for_each(|of| self.sources.take(of)),
            (false, false) | (true, true) => {}
        }
        let Some(server) = self.server(at) else { return };
        let living = |at: Option<Stage>| u32::from(at.is_some_and(|stage| stage != Stage::Over));
        let there = |at: Option<Stage>| u32::from(at.is_some());
        assert!(server.load >= living(from), "a backend's load is the splices that it has");
        assert!(server.kept >= there(from), "a backend's ports are those of its splices");
        server.load = server.load + living(to) - living(from);
        server.kept = server.kept + there(to) - there(from);
    }

    /// Whether the address of `client` has all the splices that one may have at its relay.
    pub(super) fn is_greedy(&self, client: &FourTuple) -> bool {
        let port = client.local.port();
        let relay = self.relays.iter().find(|relay| relay.settings.port == port);
        relay.is_some_and(|relay| {
            self.sources.count(Source::at_port(client)) >= relay.settings.client_max
        })
    }

    /// How many splices stand for the address of `client`, at all relays.
    pub fn of_source(&self, client: &FourTuple) -> u32 {
        self.sources.count(Source::of(client))
    }

    /// Whether a SYN on `leg` would begin a splice: no living one has that leg.
    pub fn would_begin(&self, leg: &FourTuple) -> bool {
        let port = leg.local.port();
        let serves =
            |relay: &Relay| relay.settings.port == port && relay.settings.mode == Mode::Splice;
        let has_one = || {
            let found = self.table.find(leg).and_then(|(id, _)| self.table.get(id));
            found.is_some_and(|entry| !entry.is_over())
        };
        self.relays.iter().any(serves) && !has_one()
    }

    /// The client of a splice that was begun here and of which, since the last [`Self::poll_event`], it
    /// is known that both ends hear each other.
    pub fn just_proven(&self) -> Option<(SpliceId, FourTuple)> {
        let proven = |event: &Event| match event {
            Event::Stage(id, Stage::Open) => Some(*id),
            _ => None,
        };
        let id = self.events.iter().find_map(proven)?;
        let entry = self.table.get(id)?;
        entry.track.is_some().then_some((id, entry.splice.client))
    }

    /// A splice that has just been proven is not to be after all. Its client is refused, and its backend
    /// when it says something.
    pub fn turn_away(&mut self, id: SpliceId) {
        self.end(id);
    }
}
