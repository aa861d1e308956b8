//! Faults strike and end.

use super::host::Fuse;
use super::plan::{Target, Trouble, Way, Weather, Wire};
use super::world::{Event, World};
use crate::oracle::{NodeId, Sight};

/// What carries nothing at the moment: how many faults say so.
#[derive(Debug)]
pub(super) struct Cuts {
    /// By node and way (out, in).
    lan: [[u32; 2]; 2],
    link: [[u32; 2]; 2],
    carrier: [u32; 2],
    arbiter: [u32; 2],
    /// What would pass a host's TUN.
    tun: [u32; 2],
    /// Between the two nodes, on both networks.
    estranged: u32,
    /// By machine and way.
    machines: Vec<[u32; 2]>,
}

impl Cuts {
    pub(super) fn new(machines: usize) -> Self {
        Self {
            lan: [[0; 2]; 2],
            link: [[0; 2]; 2],
            carrier: [0; 2],
            arbiter: [0; 2],
            tun: [0; 2],
            estranged: 0,
            machines: vec![[0; 2]; machines],
        }
    }

    pub(super) const fn lan_out(&self, host: usize) -> bool {
        self.lan[host][0] > 0
    }

    pub(super) const fn lan_in(&self, host: usize) -> bool {
        self.lan[host][1] > 0
    }

    pub(super) const fn link_out(&self, host: usize) -> bool {
        self.link[host][0] > 0 || self.estranged > 0
    }

    pub(super) const fn link_in(&self, host: usize) -> bool {
        self.link[host][1] > 0 || self.estranged > 0
    }

    pub(super) const fn carrier_lost(&self, host: usize) -> bool {
        self.carrier[host] > 0
    }

    pub(super) const fn unfit(&self, host: usize) -> bool {
        self.tun[host] > 0
    }

    pub(super) const fn estranged(&self) -> bool {
        self.estranged > 0
    }

    pub(super) const fn no_arbiter(&self, host: usize) -> bool {
        self.arbiter[host] > 0
    }

    pub(super) fn machine_out(&self, machine: usize) -> bool {
        self.machines[machine][0] > 0
    }

    pub(super) fn machine_in(&self, machine: usize) -> bool {
        self.machines[machine][1] > 0
    }

    /// One fault more (`cut`), or one less.
    fn change(&mut self, wire: Wire, host: usize, way: Way, cut: bool) {
        if wire != Wire::Replication {
            count(&mut self.lan[host], way, cut);
        }
        if wire != Wire::Lan {
            count(&mut self.link[host], way, cut);
        }
    }
}

fn count(ways: &mut [u32; 2], way: Way, cut: bool) {
    let affected: &mut [u32] = match way {
        Way::Out => &mut ways[..1],
        Way::In => &mut ways[1..],
        Way::Both => ways,
    };
    for count in affected {
        *count = if cut { *count + 1 } else { count.saturating_sub(1) };
    }
}

impl World {
    /// The planned fault strikes.
    pub(super) fn strike_planned(&mut self, fault: usize) {
        if !self.healed {
            self.strike(fault);
        }
    }

    /// Adds a fault to the plan, and lets it strike now.
    pub fn strike_now(&mut self, what: Trouble) {
        let at_us = self.now / 1000;
        self.plan.faults.push(super::plan::Fault { at_us, what });
        self.strike(self.plan.faults.len() - 1);
    }

    fn strike(&mut self, fault: usize) {
        let what = self.plan.faults[fault].what;
        self.tally.add(what.kind(), 1);
        self.say(|| format!("FAULT: {what}"));
        match what {
            Trouble::Crash { node, outputs, .. }
            | Trouble::Poweroff { node, outputs, .. }
            | Trouble::Freeze { node, outputs, .. } => {
                let host = self.resolve(node);
                if outputs > 0 && self.hosts[host].runs() {
                    self.hosts[host].fuse = Some(Fuse { outputs, fault });
                } else {
                    self.blow(host, fault);
                }
            }
            Trouble::Cut { node, wire, way, carrier, for_us } => {
                let host = self.resolve(node);
                self.cuts.change(wire, host, way, true);
                if carrier && wire == Wire::Lan && way == Way::Both {
                    self.cuts.carrier[host] += 1;
                    self.post_carrier(host, false);
                }
                self.relief_after(fault, host, for_us);
            }
            Trouble::CutMachine { machine, way, for_us } => {
                if let Some(ways) = self.cuts.machines.get_mut(machine) {
                    count(ways, way, true);
                    self.relief_after(fault, 0, for_us);
                }
            }
            Trouble::ResetLink => self.reset_link(),
            Trouble::StallLink { node, for_us } => {
                let host = self.resolve(node);
                self.streams.stall(host);
                self.relief_after(fault, host, for_us);
            }
            Trouble::Storm { weather, for_us } => {
                self.weather = weather;
                self.relief_after(fault, 0, for_us);
            }
            Trouble::BeatLoss { wire, loss, for_us } => {
                self.set_beat_loss(wire, loss);
                self.relief_after(fault, 0, for_us);
            }
            Trouble::WallJump { node, seconds } => {
                let host = self.resolve(node);
                self.hosts[host].clock.jump(seconds);
            }
            Trouble::BusyDisk { node, for_us } => {
                let host = self.resolve(node);
                self.hosts[host].disk_busy.set(true);
                self.relief_after(fault, host, for_us);
            }
            Trouble::Unfit { node, for_us } => {
                let host = self.resolve(node);
                self.cuts.tun[host] += 1;
                self.post_fitness(host);
                self.relief_after(fault, host, for_us);
            }
            Trouble::LanMtu { node, mtu, for_us } => {
                let host = self.resolve(node);
                self.hosts[host].mtus.push(mtu);
                self.host_mtu_changes();
                self.relief_after(fault, host, for_us);
            }
            Trouble::Slip { node, slip, for_us } => {
                let host = self.resolve(node);
                self.slip(host, slip, true);
                self.relief_after(fault, host, for_us);
            }
            Trouble::Estranged { for_us } => {
                self.cuts.estranged += 1;
                self.relief_after(fault, 0, for_us);
            }
            Trouble::CutArbiter { node, for_us } => {
                let host = self.resolve(node);
                self.cuts.arbiter[host] += 1;
                self.relief_after(fault, host, for_us);
            }
            Trouble::Outage { for_us } => {
                self.cuts.arbiter.iter_mut().for_each(|cut| *cut += 1);
                self.relief_after(fault, 0, for_us);
            }
            Trouble::BackendDies { backend, restart_us } => {
                let mirror = self.plan.relays.as_ref().and_then(|relays| relays.mirror);
                self.backend_ends(backend, true, mirror.is_some_and(|mirror| mirror.orderly));
                self.revive_after(backend, restart_us);
            }
            Trouble::BackendPoweroff { backend, restart_us } => {
                self.backend_ends(backend, false, false);
                self.revive_after(backend, restart_us);
            }
            Trouble::BackendFalls { backend, stage, requests, orderly, restart_us } => {
                let fuse = super::http::Fuse { requests, stage, orderly, restart_us };
                self.desk.lay(backend, fuse);
            }
            Trouble::CutBackend { backend, way, for_us } => {
                self.cut_backend(backend, way, true);
                self.relief_after(fault, 0, for_us);
            }
            Trouble::SlowBackend { backend, for_us } => {
                self.backend_stands_still(backend, true);
                self.relief_after(fault, 0, for_us);
            }
            Trouble::Replay { node, count, for_us } => {
                let host = self.resolve(node);
                self.play_recordings(host, count, for_us * 1000);
            }
            Trouble::Switchover => {
                let host = self.resolve(Target::Primary);
                if self.hosts[host].engine.is_some() {
                    self.hosts[host].inbox.switchover = true;
                    self.want_turn(host);
                }
            }
        }
    }

    fn resolve(&self, node: Target) -> usize {
        let primary = self.primary().or(self.promise.owner).unwrap_or(0);
        match node {
            Target::A => 0,
            Target::B => 1,
            Target::Primary => primary,
            Target::Standby => 1 - primary,
        }
    }

    fn set_beat_loss(&mut self, wire: Wire, loss: u32) {
        if wire != Wire::Lan {
            self.beat_loss[0] = loss;
        }
        if wire != Wire::Replication {
            self.beat_loss[1] = loss;
        }
    }

    fn relief_after(&mut self, fault: usize, host: usize, for_us: u64) {
        self.post(for_us * 1000, Event::Relief { fault, host, serial: 0 });
    }

    /// A failure of a process or a host comes true.
    pub(super) fn blow(&mut self, host: usize, fault: usize) {
        let name = NodeId(host as u8).name();
        if self.hosts[host].engine.is_none() {
            return;
        }
        match self.plan.faults[fault].what {
            Trouble::Crash { flushed, restart_us, .. } => {
                self.say(|| format!("{name}: process dies"));
                self.hosts[host].note(self.now, "---- crash ----");
                self.promise_before_end(host);
                self.end_process(host, Some(flushed));
                self.restart_after(host, restart_us);
            }
            Trouble::Poweroff { restart_us, .. } => {
                self.say(|| format!("{name}: host is gone"));
                self.hosts[host].note(self.now, "---- power off ----");
                self.promise_before_end(host);
                self.end_process(host, None);
                self.hosts[host].powered = false;
                self.hosts[host].host_frozen = false;
                self.restart_after(host, restart_us);
            }
            Trouble::Freeze { for_us, host: whole, .. } if !self.hosts[host].frozen => {
                self.say(|| format!("{name}: stands still"));
                self.hosts[host].note(self.now, "---- frozen ----");
                self.promise_before_freeze(host);
                let state = &mut self.hosts[host];
                state.frozen = true;
                state.host_frozen = whole;
                state.freezes += 1;
                let serial = state.freezes;
                self.see(Sight::Frozen { node: NodeId(host as u8) });
                self.post(for_us * 1000, Event::Relief { fault, host, serial });
            }
            _ => {}
        }
    }

    fn cut_backend(&mut self, backend: usize, way: Way, cut: bool) {
        if let Some(backend) = self.backends.get(backend) {
            count(&mut self.cuts.machines[backend.machine], way, cut);
        }
        self.backend_is_cut(backend, cut);
    }

    fn revive_after(&mut self, backend: usize, restart_us: u64) {
        if restart_us > 0 && !self.healed {
            self.post(restart_us * 1000, Event::BackendStart { backend });
        }
    }

    fn restart_after(&mut self, host: usize, restart_us: u64) {
        if self.healed {
            self.post(1_000_000_000, Event::Start { host });
        } else if restart_us > 0 {
            self.post(restart_us * 1000, Event::Start { host });
        }
    }

    fn thaw(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.host_frozen = false;
        if !core::mem::take(&mut state.frozen) {
            return;
        }
        state.heard_at = self.now;
        state.meter.pause();
        state.turn_at = u64::MAX;
        state.note(self.now, "---- goes on ----");
        self.promise_after_thaw(host);
        self.say(|| format!("{}: goes on", NodeId(host as u8).name()));
        self.see(Sight::Thawed { node: NodeId(host as u8) });
        self.want_turn(host);
        self.kick_streams();
    }

    /// A fault that lasts is over.
    pub(super) fn relieve(&mut self, fault: usize, host: usize, serial: u64) {
        let what = self.plan.faults[fault].what;
        if self.healed {
            return;
        }
        match what {
            Trouble::Freeze { .. } => {
                if self.hosts[host].freezes == serial {
                    self.thaw(host);
                }
                return;
            }
            Trouble::Cut { wire, way, carrier, .. } => {
                self.cuts.change(wire, host, way, false);
                if carrier && wire == Wire::Lan && way == Way::Both {
                    self.cuts.carrier[host] = self.cuts.carrier[host].saturating_sub(1);
                    self.post_carrier(host, !self.cuts.carrier_lost(host));
                }
                self.kick_streams();
            }
            Trouble::CutMachine { machine, way, .. } => {
                count(&mut self.cuts.machines[machine], way, false);
            }
            Trouble::StallLink { .. } => {
                self.streams.unstall(host);
                self.kick_streams();
            }
            Trouble::Storm { .. } => self.weather = self.plan.lan,
            Trouble::BeatLoss { wire, .. } => self.set_beat_loss(wire, 0),
            Trouble::BusyDisk { .. } => self.free_disk(host),
            Trouble::Unfit { .. } => {
                self.cuts.tun[host] = self.cuts.tun[host].saturating_sub(1);
                self.post_fitness(host);
            }
            Trouble::LanMtu { mtu, .. } => {
                let mtus = &mut self.hosts[host].mtus;
                if let Some(at) = mtus.iter().position(|known| *known == mtu) {
                    mtus.swap_remove(at);
                }
                self.host_mtu_changes();
            }
            Trouble::Slip { slip, .. } => self.slip(host, slip, false),
            Trouble::Estranged { .. } => {
                self.cuts.estranged = self.cuts.estranged.saturating_sub(1);
                self.kick_streams();
            }
            Trouble::CutArbiter { .. } => {
                self.cuts.arbiter[host] = self.cuts.arbiter[host].saturating_sub(1);
            }
            Trouble::Outage { .. } => {
                self.cuts.arbiter.iter_mut().for_each(|cut| *cut = cut.saturating_sub(1));
            }
            Trouble::CutBackend { backend, way, .. } => self.cut_backend(backend, way, false),
            Trouble::SlowBackend { backend, .. } => self.backend_stands_still(backend, false),
            Trouble::Crash { .. }
            | Trouble::Poweroff { .. }
            | Trouble::BackendDies { .. }
            | Trouble::BackendPoweroff { .. }
            | Trouble::BackendFalls { .. }
            | Trouble::ResetLink
            | Trouble::WallJump { .. }
            | Trouble::Replay { .. }
            | Trouble::Switchover => {}
        }
        self.say(|| format!("over: {}", what.kind()));
    }

    fn free_disk(&mut self, host: usize) {
        self.hosts[host].disk_busy.set(false);
        self.hosts[host].inbox.content = true;
        self.want_turn(host);
    }

    /// Everything works again: the second phase begins.
    pub fn heal(&mut self) {
        self.say(|| "EVERYTHING HEALS".to_owned());
        self.healed = true;
        self.backends_recover();
        self.desk.clear_fuses();
        self.cuts = Cuts { carrier: self.cuts.carrier, ..Cuts::new(self.machines.len()) };
        let Weather { delay_us, jitter_us, rate, .. } = self.plan.lan;
        self.weather = Weather { delay_us, jitter_us, rate, ..Weather::FAIR };
        self.beat_loss = [0; 2];
        self.streams.unstall_all();
        self.hosts.iter_mut().for_each(|host| host.mtus.clear());
        self.host_mtu_changes();
        self.mend_slips();
        for host in 0..2 {
            self.hosts[host].fuse = None;
            if core::mem::take(&mut self.cuts.carrier[host]) > 0 {
                self.post_carrier(host, true);
            }
            self.post_fitness(host);
            self.thaw(host);
            self.free_disk(host);
            self.post(1000, Event::Start { host });
        }
        for backend in 0..self.backends.len() {
            self.backend_is_troubled(backend);
            self.backend_is_free(backend);
            self.post(1000, Event::BackendStart { backend });
        }
        self.kick_streams();
    }
}
