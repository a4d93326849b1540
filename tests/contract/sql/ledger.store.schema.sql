-- LATE
booked_at - effective_at > interval '5 seconds';

-- AHEAD
effective_at - booked_at > interval '5 seconds';

-- NEAR
effective_at <> booked_at AND NOT is_hold;
