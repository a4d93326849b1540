-- LATE
booked_at - effective_at > interval '1 minute';

-- AHEAD
effective_at - booked_at > interval '1 minute';
