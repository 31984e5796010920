//! Random commands against a model that a reader can hold in mind: a list of sessions that are alive or dead.
//!
//! The world has records and a log of floors, and now and then it stops between the two, as a process that crashes.

use std::{collections::BTreeMap, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{id::Role, revocation::FloorKey};

#[derive(Debug, Clone, Copy)]
enum Command {
    Open,
    /// Presents a token that is this many generations old.
    Refresh(usize, u32),
    StepUp(usize),
    SetScope(usize, bool),
    End(usize),
    EndAll,
    EndOthers(usize),
    SetRoles(bool),
    Disable,
    Enable,
    EndEveryone,
    RenewEveryone,
    Wait(u64),
}

/// Whether the process stops between log and record.
type Crash = bool;

fn commands() -> impl Strategy<Value = Vec<(Command, Crash)>> {
    let which = 0_usize..6;
    let command = prop_oneof![
        4 => Just(Command::Open),
        8 => (which.clone(), prop_oneof![6 => Just(0_u32), 2 => Just(1), 1 => Just(2)])
            .prop_map(|(which, back)| Command::Refresh(which, back)),
        2 => which.clone().prop_map(Command::StepUp),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, read)| Command::SetScope(which, read)),
        2 => which.clone().prop_map(Command::End),
        1 => Just(Command::EndAll),
        1 => which.prop_map(Command::EndOthers),
        2 => any::<bool>().prop_map(Command::SetRoles),
        1 => Just(Command::Disable),
        2 => Just(Command::Enable),
        1 => Just(Command::EndEveryone),
        1 => Just(Command::RenewEveryone),
        4 => (0_u64..120).prop_map(Command::Wait),
    ];
    prop::collection::vec((command, prop::bool::weighted(0.15)), 1..60)
}

/// What the model knows of a session: ends that only grow nearer, and whether it is over for good.
struct Expected {
    over: bool,
    /// Whoever ended it was told so.
    told: bool,
    idle_end: u64,
    end: u64,
    generation: u32,
    rotated_at: u64,
}

struct World {
    now: u64,
    subject: Subject,
    everyone: Versions,
    floors: BTreeMap<FloorKey, Version>,
    sessions: Vec<(SessionId, Session)>,
    expected: Vec<Expected>,
    /// The versions of the last token of each session.
    tokens: Vec<[Version; 4]>,
}

fn subject_key() -> FloorKey {
    FloorKey::subject(&command().subject)
}

impl World {
    fn new() -> Self {
        Self {
            now: 0,
            subject: subject(),
            everyone: EVERYONE,
            floors: BTreeMap::new(),
            sessions: Vec::new(),
            expected: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn floor(&self, key: FloorKey) -> Version {
        self.floors.get(&key).copied().unwrap_or(Version::NONE)
    }

    fn raise(&mut self, key: FloorKey, lowest: Version) {
        let floor = self.floors.entry(key).or_insert(Version::NONE);
        assert!(lowest > *floor || lowest == Version::ENDED, "I4: a command rises above the log");
        *floor = lowest;
    }

    fn around<'a>(&'a self, id: &'a SessionId) -> Surroundings<'a> {
        Surroundings {
            id,
            everyone: &self.everyone,
            session_floor: self.floor(FloorKey::session(id)),
            subject_floor: self.floor(subject_key()),
            everyone_floor: self.floor(FloorKey::everyone()),
            ..around(&self.subject)
        }
    }

    fn live(&self, index: usize) -> Result<Live<'_>, NotLive> {
        let (id, session) = &self.sessions[index];
        session.live(self.around(id), at(self.now))
    }

    fn is_expected_alive(&self, index: usize) -> bool {
        let expected = &self.expected[index];
        !expected.over && self.now < expected.idle_end && self.now < expected.end
    }

    fn add(&mut self, session: Session) {
        let id = SessionId::from_random([u8::try_from(self.sessions.len()).unwrap(); 16]);
        self.sessions.push((id, session));
        let end = self.now + 3_600;
        let (idle_end, rotated_at) = (self.now + 600, self.now);
        self.expected.push(Expected { over: false, told: false, idle_end, end, generation: 0, rotated_at });
        let index = self.sessions.len() - 1;
        self.tokens.push([Version::NONE; 4]);
        self.mint(index);
    }

    /// A token of a live session: its versions never fall, and no floor is above them.
    fn mint(&mut self, index: usize) {
        let versions = self.live(index).unwrap().versions();
        let before = self.tokens[index];
        assert!(before.iter().zip(versions).all(|(old, new)| *old <= new), "I4: {before:?} {versions:?}");
        self.tokens[index] = versions;
        assert!(!self.is_revoked(index), "a token that was just made counts");
    }

    fn is_revoked(&self, index: usize) -> bool {
        let [session, subject, _, everyone] = self.tokens[index];
        session < self.floor(FloorKey::session(&self.sessions[index].0))
            || subject < self.floor(subject_key())
            || everyone < self.floor(FloorKey::everyone())
    }

    fn end_expected(&mut self, spared: Option<usize>, crash: Crash) {
        for (index, expected) in self.expected.iter_mut().enumerate() {
            expected.over |= Some(index) != spared;
            expected.told |= Some(index) != spared && !crash;
        }
    }

    /// Of a record that a crash left behind its floor only what the floor says comes about.
    fn set_subject(&mut self, next: Subject, crash: Crash) {
        if next.versions.version > self.subject.versions.version {
            self.raise(subject_key(), next.versions.version);
        }
        let healed = self.subject.healed(self.floor(subject_key()));
        self.subject = if crash { healed.unwrap_or_else(|| self.subject.clone()) } else { next };
    }

    fn set_everyone(&mut self, next: Versions, crash: Crash) {
        self.raise(FloorKey::everyone(), next.version);
        self.everyone = if crash { self.everyone.healed(next.version) } else { next };
    }

    fn end(&mut self, index: usize, reason: EndReason, crash: Crash) {
        let (id, session) = self.sessions[index].clone();
        let Some(ended) = session.ended(reason, Initiator::Admin, at(self.now)) else { return };
        self.raise(FloorKey::session(&id), Version::ENDED);
        (self.expected[index].over, self.expected[index].told) = (true, true);
        if !crash {
            self.sessions[index].1 = ended;
        }
    }

    fn refresh(&mut self, index: usize, back: u32) {
        let Ok(live) = self.live(index) else { return };
        let Some(presented) = live.session().generation.0.checked_sub(back) else { return };
        let result = live.refresh(Generation(presented), &client(), context("Firefox"), at(self.now));
        let expected = &mut self.expected[index];
        match result {
            Ok(Refreshed::Rotated { session, healed }) => {
                assert!(back == 0 && !healed, "I3: only the newest rotates");
                expected.generation += 1;
                (expected.rotated_at, expected.idle_end) = (self.now, self.now + 600);
                self.sessions[index].1 = *session;
                self.mint(index);
            }
            Ok(Refreshed::Repeated(generation)) => {
                assert!(back == 1 && self.now < expected.rotated_at + 30, "REF-05");
                assert_eq!(generation.0, expected.generation, "I3: the same successor");
            }
            Err(RefreshError::Reuse { session, .. }) => {
                assert!(back > 1 || (back == 1 && self.now >= expected.rotated_at + 30), "I3: no false alarm");
                (expected.over, expected.told) = (true, true);
                let id = self.sessions[index].0;
                self.raise(FloorKey::session(&id), Version::ENDED);
                self.sessions[index].1 = *session;
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn run(&mut self, command: Command, crash: Crash) {
        let of = |which: usize, count: usize| (count > 0).then(|| which % count);
        let floor = self.floor(subject_key());
        let everyone_floor = self.floor(FloorKey::everyone());
        let count = self.sessions.len();
        match command {
            Command::Open => {
                if count < 200
                    && let Ok(session) = Session::open(super::command(), &self.around(&ID), at(self.now))
                {
                    self.add(session);
                }
            }
            Command::Refresh(which, back) => {
                if let Some(index) = of(which, count) {
                    self.refresh(index, back);
                }
            }
            Command::StepUp(which) => {
                let Some(index) = of(which, count) else { return };
                let Ok(live) = self.live(index) else { return };
                let seed = Seed([3; 16]);
                let step_up = StepUp {
                    seed,
                    context: context("Firefox"),
                    tier: None,
                    auth_time: None,
                    acr: Some("high".to_string()),
                    amr: vec![],
                    scope: None,
                    device: None,
                };
                let new = live.step_up(step_up, at(self.now)).unwrap();
                self.end(index, EndReason::Replaced, crash);
                if !crash {
                    self.add(new);
                }
            }
            Command::SetScope(which, read) => {
                let Some(index) = of(which, count) else { return };
                let Ok(live) = self.live(index) else { return };
                let Some(next) = live.with_scope(read.then(|| "read".to_string())) else { return };
                let id = self.sessions[index].0;
                self.raise(FloorKey::session(&id), next.version);
                if !crash {
                    self.sessions[index].1 = next;
                }
                assert!(self.is_revoked(index), "SES-12: tokens with the old scope no longer count");
                self.mint(index);
            }
            Command::End(which) => {
                if let Some(index) = of(which, count) {
                    self.end(index, EndReason::Revoked, crash);
                }
            }
            Command::EndAll => {
                self.set_subject(self.subject.with_sessions_ended(floor), crash);
                self.end_expected(None, crash);
            }
            Command::EndOthers(which) => {
                let Some(index) = of(which, count) else { return };
                if self.live(index).is_err() {
                    return;
                }
                let (id, session) = &self.sessions[index];
                let next = self.subject.with_others_ended(*id, session.subject_version, floor).unwrap();
                // The record comes first: without it nobody knows which session is kept.
                if crash {
                    self.subject = next;
                } else {
                    self.set_subject(next, crash);
                }
                self.end_expected(Some(index), crash);
            }
            Command::SetRoles(admin) => {
                let roles: Vec<Role> = if admin { vec!["admin".parse().unwrap()] } else { vec![] };
                if let Some(next) = self.subject.with_roles(roles, floor).unwrap() {
                    self.set_subject(next, crash);
                }
            }
            Command::Disable => {
                if let Some(next) = self.subject.disabled(floor) {
                    self.set_subject(next, crash);
                    self.end_expected(None, crash);
                }
            }
            Command::Enable => {
                if let Some(next) = self.subject.enabled(floor) {
                    self.set_subject(next, crash);
                }
            }
            Command::EndEveryone => {
                self.set_everyone(self.everyone.sessions_ended(everyone_floor), crash);
                self.end_expected(None, crash);
            }
            Command::RenewEveryone => {
                let next = self.everyone.raised(everyone_floor);
                self.set_everyone(next, crash);
            }
            Command::Wait(secs) => self.now += secs,
        }
    }

    fn check(&self, before: &[(SessionId, Session)]) {
        for (index, (_, session)) in self.sessions.iter().enumerate() {
            let alive = self.live(index).is_ok();
            assert_eq!(alive, self.is_expected_alive(index), "{index}: {:?}", self.live(index).err());
            assert_eq!(session.generation.0, self.expected[index].generation, "I3");
            if self.expected[index].told {
                assert!(self.is_revoked(index), "I1: no token of an ended session counts");
            }
            let Some((_, old)) = before.get(index) else { continue };
            assert!(session.version >= old.version, "I4");
            assert_eq!((session.expires_at, session.auth_time), (old.expires_at, old.auth_time), "TMO-06, REF-10");
            assert_eq!((&session.acr, &session.amr), (&old.acr, &old.amr), "REF-10");
            if matches!(old.state, State::Ended { .. }) {
                assert_eq!(session, old, "ended is terminal");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// I3, I4, SES-02, SES-05..SES-08, SES-12, REF-04, REF-05, REF-10, TMO-04, TMO-06: exactly the sessions of the model
    /// are alive after every command, whatever was repeated, replayed or cut off before.
    #[test]
    fn exactly_the_sessions_of_the_model_are_alive(commands in commands()) {
        let mut world = World::new();
        for (command, crash) in commands {
            let before = world.sessions.clone();
            world.run(command, crash);
            world.check(&before);
        }
    }
}
