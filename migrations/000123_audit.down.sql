DROP TABLE audit;
DROP FUNCTION audit_refuse();
DROP FUNCTION audit_append();
