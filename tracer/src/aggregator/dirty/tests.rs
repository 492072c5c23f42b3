//! Sums, bounds, order.
