//! What the running service makes of bad input: a clear refusal with its code, nothing stored, nothing leaked.

mod barrage;
mod batches;
mod crowd;
mod disputes;
mod door;
mod envelopes;
mod erasure;
mod feed;
mod forms;
mod generations;
mod grounds;
mod idempotency;
mod outsiders;
mod patience;
mod quota;
mod repetition;
mod roles;
mod sealing_keys;
mod stored;
mod suspended;
mod thief;
mod tiles;
mod time;
mod walk;
mod work;
mod world;
