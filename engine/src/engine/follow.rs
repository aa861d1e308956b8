//! The standby's side of replication: records in, confirmations out.

use super::Engine;
use super::connection::{Body, Connection};
use super::setup::ServicePort;
use crate::ids::{ConnId, Epoch, Lsn};
use crate::relay::{Health, Splice, Stage};
use crate::replica::{Record, ServiceRef, Violation};
use crate::service::output::ENDLESS;
use crate::service::{App, Edition, Env, PinBytes, Place, Store};
use crate::session::{CLIENT, Event, Loss, Membership};
use crate::tcp::{CloseCause, Hard};
use crate::time::Instant;

/// Why a record that decodes cannot be true here.
type Why = &'static str;

impl Engine {
    /// Applies one record of the primary's log.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        epoch: Epoch,
        lsn: Lsn,
        record: &Record<'_>,
    ) -> Result<(), Violation> {
        self.work += 1;
        self.apply_record(now, epoch, record)
            .map_err(|why| Violation::Contradiction { lsn, why })?;
        if let Some(id) = record.conn() {
            self.note_exposure(now, id);
            self.note_memory(id);
            self.note_life(now, id, record);
        }
        Ok(())
    }

    /// Keeps the count of held connections that this node could not continue (I7).
    pub(super) fn note_exposure(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let exposed = !connection.app.protected();
        if exposed != connection.exposed {
            connection.exposed = exposed;
            self.unprotected = if exposed { self.unprotected + 1 } else { self.unprotected - 1 };
        }
        if exposed || connection.app.awaits_store() {
            self.doubt(now, id);
        }
    }

    /// Keeps what a takeover wants to know at once: who was heard lately, and how many are in the
    /// handshake.
    fn note_life(&mut self, now: Instant, id: ConnId, record: &Record<'_>) {
        let Self { table, duty, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Body::Held(hard) = &connection.body else { return };
        let stands = hard.handshake_done && !connection.handshake_logged;
        if stands {
            self.half_open -= usize::from(connection.is_half_open());
            connection.handshake_logged = true;
        }
        // A snapshot says nothing of when.
        if let Some(following) = duty.following_mut()
            && !matches!(record, Record::Opened { snapshot: true, .. })
        {
            following.recent.note(now, id, &mut connection.noted);
        }
        let place = connection.place();
        self.note_lingering(id);
        self.note_source(id);
        if let Some(Place { slot, .. }) = place {
            self.call_session(now, slot, event_of(record), None, None);
        }
        if stands {
            self.on_stands(now, id);
        }
    }

    fn apply_record(&mut self, now: Instant, epoch: Epoch, record: &Record<'_>) -> Result<(), Why> {
        match *record {
            Record::Opened { conn, snapshot, tuple, service, hard, app } => {
                let service = self.service_of(service).ok_or("service is unknown")?;
                let hard = Hard::decode(hard).map_err(|_| "connection state does not decode")?;
                self.apply_opened(conn, tuple, service, hard, app)?;
                if let Some(connection) = self.table.get_mut(conn).filter(|_| !snapshot)
                    && connection.place().is_some()
                    && core::mem::take(&mut connection.handshake_logged)
                {
                    // It came with a cookie, and its session is still to hear that it stands.
                    self.half_open += usize::from(connection.is_half_open());
                }
                Ok(())
            }
            Record::Input { conn, offset, ts_recent, bytes } => {
                let Held { app, hard, mut env, .. } = self.held(conn)?;
                if hard.received != offset {
                    return Err("input does not follow the input before it");
                }
                if hard.peer_fin {
                    return Err("input after its end");
                }
                hard.establish();
                hard.received += bytes.len() as u64;
                hard.ts_recent = ts_recent;
                app.on_input(bytes, &mut env);
                Ok(())
            }
            Record::PeerFinished { conn, offset } => {
                let Held { app, hard, peer_finished, mut env, .. } = self.held(conn)?;
                if hard.received != offset || hard.peer_fin {
                    return Err("end of input is not where the input ends");
                }
                hard.received = offset + 1;
                hard.establish();
                hard.peer_fin = true;
                *peer_finished = true;
                app.on_peer_finished(&mut env);
                Ok(())
            }
            Record::Pin { conn, bytes } => {
                let Held { app, mut env, .. } = self.held(conn)?;
                if app.place().is_some() {
                    return self.given_up(conn, bytes);
                }
                app.on_pin(bytes, &mut env).map_err(|_| "pin does not decode")
            }
            Record::Stood { conn, hard: stood } => {
                let stood = Hard::decode(stood).map_err(|_| "connection state does not decode")?;
                let Held { hard, .. } = self.held(conn)?;
                let same = (stood.iss, stood.ts_offset, stood.active_open, stood.received);
                if same != (hard.iss, hard.ts_offset, true, hard.received) || !stood.handshake_done
                {
                    return Err("what stands is not what was dialled");
                }
                *hard = stood;
                Ok(())
            }
            Record::Tick { conn } => {
                let Held { app, .. } = self.held(conn)?;
                app.place().map(|_| ()).ok_or("tick of a connection that wants none")
            }
            Record::Leave { conn } => {
                let Held { app, .. } = self.held(conn)?;
                app.place().map(|_| ()).ok_or("a server is left by a connection that has none")
            }
            Record::Progress { conn, acked, window, ts_recent, fin_acked, handshake_done } => {
                let Held { app, hard, mut env, .. } = self.held(conn)?;
                if acked > ENDLESS {
                    return Err("acknowledgment lies beyond any stream");
                }
                hard.acked = hard.acked.max(acked);
                hard.snd_wnd = window;
                hard.ts_recent = ts_recent;
                hard.fin_acked |= fin_acked;
                if handshake_done || fin_acked {
                    hard.establish();
                }
                app.on_acked(hard.acked, &mut env);
                Ok(())
            }
            Record::Closed { conn, cause } => {
                let mut connection =
                    self.table.remove(conn).ok_or("closed connection is unknown")?;
                self.unprotected -= u32::from(connection.exposed);
                self.half_open -= usize::from(connection.is_half_open());
                self.memory.release(connection.holds);
                self.uncount_source(&connection);
                // One that a later version gives is none that ended in order.
                let orderly = cause == CloseCause::Done.code();
                let cause = if orderly { CloseCause::Done } else { CloseCause::Aborted };
                self.leave_session(now, &mut connection, cause, None);
                self.part_with(conn, connection.app);
                Ok(())
            }
            Record::SnapshotBegin { connections: _ } => {
                self.forget_connections(now);
                self.relays.forget_states(now);
                self.relays.forget_twins();
                Ok(())
            }
            Record::Spliced { splice, client, backend, seq, ts } => {
                #[cfg(feature = "defects")]
                let seq = super::mistakes::mistaken_delta(&self.setup, seq);
                self.relays.hold(now, splice, Splice { client, backend, seq, ts })
            }
            Record::SpliceStage { splice, over } => {
                let stage = if over { Stage::Over } else { Stage::Open };
                self.relays.hold_stage(splice, stage)
            }
            Record::Unspliced { splice } => self.relays.release(splice),
            Record::Backend { port, address, up, barred, born, failed } => {
                self.hold_health(
                    now,
                    port,
                    address,
                    Health { up, barred, born, failed: None },
                    failed,
                );
                Ok(())
            }
            Record::BackendState { port, address, admin, weight, cut } => {
                self.hold_state(now, port, address, admin, weight, cut);
                Ok(())
            }
            Record::SnapshotEnd => {
                self.roles.on_synced(now, epoch);
                Ok(())
            }
        }
    }

    /// Which of the configured services a record speaks of.
    fn service_of(&self, service: ServiceRef) -> Option<u16> {
        let services = &self.setup.services;
        match service {
            ServiceRef::Index(index) => services.get(usize::from(index)).map(|_| index),
            ServiceRef::Name(name) => {
                let place = services.iter().position(|service| service.name == name)?;
                u16::try_from(place).ok()
            }
        }
    }

    fn apply_opened(
        &mut self,
        id: ConnId,
        tuple: crate::wire::FourTuple,
        service: u16,
        hard: Hard,
        app: &[u8],
    ) -> Result<(), Why> {
        let ServicePort { kind, port, .. } = self.setup.services[usize::from(service)];
        let (place, app) = if kind.has_sessions() {
            let (membership, app) = Membership::decode(app).ok_or("leg does not decode")?;
            (Some(self.hold_leg(id, tuple, service, &membership)?), app)
        } else {
            (None, app)
        };
        let accepted = place.is_none_or(|place| place.leg == CLIENT);
        let ours = self.setup.addresses.contains(&tuple.local.ip())
            && (!accepted || tuple.local.port() == port)
            && tuple.local.is_ipv6() == tuple.remote.is_ipv6();
        if !ours {
            return Err("connection is not one of the service's");
        }
        let mut env = following(self.store.of(id), &mut self.pins, self.wall);
        let app = App::restore(kind, &self.setup.limits, app, &mut env)
            .map_err(|_| "application state does not decode")?;
        let mut connection =
            Box::new(Connection::new(id, tuple, service, app, Body::Held(Box::new(hard))));
        if let Body::Held(hard) = &connection.body {
            connection.peer_finished = hard.peer_fin;
            connection.handshake_logged = hard.handshake_done;
            connection.fin_logged = hard.fin_acked;
        }
        if let Some(place) = place {
            connection.app.take_place(place);
        }
        let half_open = usize::from(connection.is_half_open());
        self.table.insert(connection).map_err(|mut refused| {
            refused.app.close(&mut self.store);
            "connection's place is taken"
        })?;
        self.half_open += half_open;
        Ok(())
    }

    /// The held connection that a record speaks of.
    fn held(&mut self, id: ConnId) -> Result<Held<'_>, Why> {
        let Self { table, store, pins, wall, .. } = self;
        let connection = table.get_mut(id).ok_or("record of an unknown connection")?;
        let Connection { app, body, peer_finished, .. } = connection;
        let Body::Held(hard) = body else { return Err("record of a connection that is ours") };
        let env = following(store.of(id), pins, *wall);
        Ok(Held { app, hard, peer_finished, env })
    }
}

/// What a record of a leg is to its session.
fn event_of(record: &Record<'_>) -> Event {
    match record {
        Record::Tick { .. } => Event::Tick,
        Record::Leave { .. } => Event::Leave,
        Record::Pin { bytes, .. } => {
            let found = Loss::decode(bytes);
            found.map_or(Event::Moved, |(leg, why)| Event::GivenUp { leg, why })
        }
        _ => Event::Moved,
    }
}

/// What an application of a held connection may use. The edition is the primary's to choose.
pub(super) fn following<'a>(
    store: &'a mut dyn Store,
    pins: &'a mut Vec<PinBytes>,
    wall: u64,
) -> Env<'a> {
    Env { store, lead: false, pins, wall, edition: Edition::default() }
}

/// A held connection's parts, each to be changed on its own.
struct Held<'a> {
    app: &'a mut App,
    hard: &'a mut Hard,
    peer_finished: &'a mut bool,
    env: Env<'a>,
}
