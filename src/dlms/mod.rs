//! dlms
