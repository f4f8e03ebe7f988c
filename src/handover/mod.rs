//! The rules of a change of supplier as pure functions: who is registered when, where a handover stands, which
//! credentials a meter may hold, when a window is open.

mod generation;
mod life;
mod registration;
mod terms;

pub use generation::{GenerationStatus, Kept, Why, Word, admit, confirm, precedence};
pub use life::{Event, State, next};
pub use registration::{
    Change, Registration, RegistrationEvent, RegistrationVersion, Standing, Status,
    previous_supplier, standing, supplier_at,
};
pub use terms::{InvalidTerms, Terms, Window};
